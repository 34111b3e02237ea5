//! Rebuilds when a migration or the pages change.

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=ui/docs");
    // Without Node it stays empty, and /docs says so.
    let bundle = "ui/node_modules/swagger-ui-dist";
    std::fs::create_dir_all(bundle)?;
    println!("cargo:rerun-if-changed={bundle}");
    Ok(())
}
