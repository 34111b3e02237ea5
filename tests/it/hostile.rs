//! Packages that lie, and honest ones that look odd.

use serde_json::{Value, json};

use crate::support::package::{
    Forge, Raw, assert_refused, case, entries, honest, named, names, packed, raw_zip, sha256, streamed, verdict,
    with_entry, zip,
};
use crate::support::process::Process;
use crate::support::{Environment, comparable};

#[tokio::test]
async fn what_is_no_whole_archive_is_unreadable() {
    let package = &honest().await.package;
    let mut cases = vec![
        case("empty", Vec::new(), "package_unreadable"),
        case("text", b"PK is not enough".to_vec(), "package_unreadable"),
        case("zeros", vec![0; 100_000], "package_unreadable"),
        case("an end record alone", [&b"PK\x05\x06"[..], &[0; 18]].concat(), "package_unreadable|package_foreign"),
        case("bytes before", [b"MZ stub", package.as_slice()].concat(), "package_unreadable"),
        case("bytes after", [package.as_slice(), b"\n"].concat(), "package_unreadable"),
        case("twice", [package.as_slice(), package].concat(), "package_unreadable"),
    ];
    for length in [1, 4, 21, 30, package.len() / 4, package.len() / 2, package.len() - 22, package.len() - 1] {
        cases.push(case(format!("cut at {length}"), package[..length].to_vec(), "package_unreadable"));
    }
    assert_refused("", cases).await;
}

#[tokio::test]
async fn what_another_program_made_is_foreign() {
    let forge = Forge::of(&honest().await.package);
    let mut other = Forge::of(&honest().await.package);
    other.manifest["product"] = json!("another");
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let with = |manifest: &[u8]| packed(&forge.signed(manifest));
    let cases = vec![
        case(
            "a document",
            zip([("word/document.xml", &b"<w/>"[..]), ("[Content_Types].xml", b"<t/>")]),
            "package_foreign",
        ),
        case("an empty archive", zip([]), "package_foreign|package_unreadable"),
        case("another product", other.build(), "package_foreign"),
        case("no JSON", with(b"not JSON"), "package_foreign"),
        case("an array", with(b"[]"), "package_foreign"),
        case("deep", with(deep.as_bytes()), "package_foreign"),
        case("no format", with(br#"{"product": "ferry"}"#), "package_foreign"),
    ];
    assert_refused("", cases).await;
}

#[tokio::test]
async fn a_newer_format_is_refused_by_its_number() {
    let mut newer = Forge::of(&honest().await.package);
    newer.manifest["format"] = json!(2);
    // Whatever else a newer format changes, its number is read first.
    let alone = zip([("manifest.json", &br#"{"format": 7, "product": "ferry", "new": true}"#[..])]);
    let cases =
        vec![case("the next", newer.build(), "package_format_newer"), case("a far one", alone, "package_format_newer")];
    assert_refused("", cases).await;
}

#[tokio::test]
async fn names_that_packages_do_not_have_are_refused() {
    let honest = honest().await;
    let hash = "0123456789abcdef".repeat(4);
    let names = [
        "../x",
        "resources/../../x",
        "/etc/passwd",
        "resources\\00002.ndjson",
        "..\\x",
        "C:x",
        "C:/x",
        "C:\\x",
        "Index.ndjson",
        "MANIFEST.JSON",
        "resources/00001.NDJSON",
        "Resources/00001.ndjson",
        "index.ndjson ",
        "./index.ndjson",
        "resources//00001.ndjson",
        "extra.txt",
        "resources/a.ndjson",
        "resources/e\u{301}.ndjson",
        "attachments/x",
        "__MACOSX/._index.ndjson",
        ".DS_Store",
        "resources/.DS_Store",
        "folder/",
        "",
    ];
    let mut cases: Vec<_> =
        names.iter().map(|name| case(format!("{name:?}"), named(honest, name), "package_unreadable")).collect();
    cases.push(case("U+0000", named(honest, "a\0b"), "package_unreadable|package_tampered"));
    let upper = format!("attachments/{}", hash.to_uppercase());
    cases.push(case("an attachment in capitals", named(honest, &upper), "package_unreadable"));
    let not_utf8 = with_entry(honest, |raw| {
        raw.name = b"resources/\xff\xfe.ndjson".to_vec();
        raw.local_name = raw.name.clone();
    });
    cases.push(case("not UTF-8", not_utf8, "package_unreadable|package_tampered"));
    assert_refused("", cases).await;
}

#[tokio::test]
async fn leftovers_of_macos_are_called_by_their_name() {
    let environment = Environment::start("production").await;
    for name in ["__MACOSX/._index.ndjson", "resources/.DS_Store"] {
        let answer = environment.admin().post_package(&named(honest().await, name)).await;
        let detail = answer.problem(422, "package_unreadable")["detail"].to_string();
        assert!(detail.contains("macOS") && detail.contains(name), "{detail}");
    }
    environment.end().await;
}

#[tokio::test]
async fn headers_that_lie_are_refused() {
    let honest = honest().await;
    let refused = "package_unreadable|package_tampered";
    let entry = |change: fn(&mut Raw)| {
        with_entry(honest, |raw| {
            *raw = Raw::new("resources/00002.ndjson", b"some content\n");
            change(raw);
        })
    };
    let twice = {
        let parts = Forge::of(&honest.package).parts();
        let mut raw: Vec<Raw> = parts.iter().map(|(name, bytes)| Raw::new(name, bytes)).collect();
        raw.insert(0, Raw::new("index.ndjson", b"{}\n"));
        raw_zip(&raw)
    };
    let cases = vec![
        case("encrypted", entry(|raw| raw.flags |= 1), refused),
        case("a symlink", entry(|raw| raw.mode = 0o120_777), refused),
        case("a device", entry(|raw| raw.mode = 0o020_666), refused),
        case("a named pipe", entry(|raw| raw.mode = 0o010_666), refused),
        case("a folder that holds bytes", entry(|raw| raw.mode = 0o040_755), refused),
        case("BZIP2", entry(|raw| raw.method = 12), refused),
        case("Zstandard", entry(|raw| raw.method = 93), refused),
        case("a larger size", entry(|raw| raw.size += 1), refused),
        case("a smaller size", entry(|raw| raw.size -= 1), refused),
        case("a huge size", entry(|raw| raw.size = u32::MAX - 1), refused),
        case(
            "another name in the local header",
            entry(|raw| raw.local_name = b"resources/00003.ndjson".to_vec()),
            refused,
        ),
        case("not in the directory", entry(|raw| raw.unlisted = true), "package_unreadable|package_incomplete"),
        case("the same name twice", twice, refused),
    ];
    assert_refused("", cases).await;
}

#[tokio::test]
async fn a_wrong_checksum_is_refused() {
    let honest = honest().await;
    let parts = Forge::of(&honest.package).parts();
    let mut cases = Vec::new();
    for wrong in 0..parts.len() {
        let mut raw: Vec<Raw> = parts.iter().map(|(name, bytes)| Raw::new(name, bytes)).collect();
        raw[wrong].crc ^= 1;
        cases.push(case(&parts[wrong].0, raw_zip(&raw), "package_tampered|package_unreadable"));
    }
    assert_refused("", cases).await;
}

#[tokio::test]
async fn a_package_changed_after_its_export_is_refused() {
    let package = &honest().await.package;
    let parts: Vec<(String, Vec<u8>)> = {
        let mut found = entries(package);
        names(package).into_iter().map(|name| (name.clone(), found.remove(&name).unwrap())).collect()
    };
    let changed = |name: &str, from: &str, to: &str| {
        let mut parts = parts.clone();
        let part = &mut parts.iter_mut().find(|(known, _)| known == name).unwrap().1;
        let before = String::from_utf8(part.clone()).unwrap();
        assert!(before.contains(from));
        *part = before.replacen(from, to, 1).into_bytes();
        packed(&parts)
    };
    let without = |wanted: &str| packed(&parts.iter().filter(|(name, _)| name != wanted).cloned().collect::<Vec<_>>());
    let attachment = parts.iter().find(|(name, _)| name.starts_with("attachments/")).unwrap().0.clone();
    let mut extra = parts.clone();
    extra.insert(0, ("resources/00002.ndjson".to_owned(), b"{}\n".to_vec()));
    let forged = Forge::of(package).parts();
    let other_signature: Vec<_> = parts[..parts.len() - 1].iter().chain(forged.last()).cloned().collect();
    let shard = "resources/00001.ndjson";
    let cases = vec![
        case("a definition", changed(shard, "Orders", "Borders"), "package_tampered"),
        case("a definition of the same size", changed(shard, "Orders", "orders"), "package_tampered"),
        case("the index", changed("index.ndjson", "Orders", "orders"), "package_tampered"),
        case("an attachment", changed(&attachment, "picture", "PICTURE"), "package_tampered"),
        case("the manifest", changed("manifest.json", "\"test\"", "\"TEST\""), "package_tampered"),
        case("the signature", changed("signature.json", "\"sig\":\"", "\"sig\":\"A"), "package_tampered"),
        case("the signature of another", packed(&other_signature), "package_tampered"),
        case("an entry more", packed(&extra), "package_tampered"),
        case("without its signature", without("signature.json"), "package_tampered|package_incomplete"),
        case("without its manifest", without("manifest.json"), "package_foreign"),
        case("without its index", without("index.ndjson"), "package_incomplete"),
        case("without a shard", without(shard), "package_incomplete"),
        case("without an attachment", without(&attachment), "package_incomplete"),
    ];
    assert_refused("", cases).await;
}

#[tokio::test]
async fn a_signed_package_that_contradicts_itself_is_refused() {
    let honest = honest().await;
    let shard = "resources/00001.ndjson";
    let forged = |change: &dyn Fn(&mut Forge)| {
        let mut forge = Forge::of(&honest.package);
        change(&mut forge);
        forge.build()
    };
    let both = |change: &dyn Fn(&mut Vec<Value>)| {
        forged(&|forge| ["index.ndjson", shard].iter().for_each(|name| forge.edit(name, |lines| change(lines))))
    };
    let refused = "package_tampered|package_incomplete";
    let in_shard = |change: &dyn Fn(&mut Vec<Value>)| forged(&|forge| forge.edit(shard, |lines| change(lines)));
    let tail =
        |forge: &mut Forge| forge.files.push(("resources/00003.ndjson".to_owned(), b"{\"id\":\"z\"}\n".to_vec()));
    let cases = vec![
        case("a resource twice", both(&|lines| lines.push(lines[0].clone())), refused),
        case("a resource less", in_shard(&|lines| drop(lines.pop())), refused),
        case("a resource more", in_shard(&|lines| lines.push(lines[0].clone())), refused),
        case("another order", in_shard(&|lines| lines.swap(0, 1)), refused),
        case("another ID", in_shard(&|lines| lines[0]["id"] = json!("other")), refused),
        case("an ID that is none", both(&|lines| lines[0]["id"] = json!("../x")), refused),
        case("a name that is none", both(&|lines| lines[0]["name"] = json!("a\nb")), refused),
        case("a name that is not trimmed", both(&|lines| lines[0]["name"] = json!(" a ")), refused),
        case("a name that is not NFC", both(&|lines| lines[0]["name"] = json!("e\u{301}")), refused),
        case("a directory that is none", both(&|lines| lines[0]["directory"] = json!("/a/../b")), refused),
        case("no definition", in_shard(&|lines| drop(lines[0].as_object_mut().unwrap().remove("definition"))), refused),
        case("a line that is no JSON", forged(&|forge| forge.files[1].1.extend(b"{]\n")), refused),
        case("no end of line", forged(&|forge| assert_eq!(forge.files[1].1.pop(), Some(b'\n'))), refused),
        case("an index that is no JSON", forged(&|forge| forge.files[0].1.extend(b"]\n")), refused),
        case("a shard after a gap", forged(&tail), refused),
    ];
    assert_refused("", cases).await;
}

#[tokio::test]
async fn a_manifest_with_words_that_cannot_be_kept_is_refused() {
    let honest = honest().await;
    let mut cases = Vec::new();
    for path in
        ["/name", "/domain", "/exported_by", "/environment/name", "/environment/id", "/environment/kind", "/version"]
    {
        let mut forge = Forge::of(&honest.package);
        *forge.manifest.pointer_mut(path).unwrap() = json!("a\0b");
        cases.push(case(
            format!("{path} with U+0000"),
            forge.build(),
            "package_tampered|package_unreadable|package_foreign",
        ));
    }
    assert_refused("", cases).await;
}

#[tokio::test]
async fn bytes_under_the_hash_of_other_bytes_are_refused() {
    let mut forge = Forge::of(&honest().await.package);
    let attachment = forge.files.iter_mut().find(|(name, _)| name.starts_with("attachments/")).unwrap();
    attachment.1 = b"other bytes, honestly signed".to_vec();
    assert_refused("", vec![case("other bytes", forge.build(), "package_tampered")]).await;
}

#[tokio::test]
async fn what_the_index_says_beside_the_definitions_has_no_effect() {
    let honest = honest().await;
    let production = Environment::start("production").await;
    let mut forge = Forge::of(&honest.package);
    forge.edit("index.ndjson", |lines| {
        for line in lines {
            line["content_hash"] = json!("00".repeat(32));
            line["references"] = json!([["Dataset", "use", "nowhere"]]);
            line["children"] = json!(["x"]);
            line["name"] = json!("Lie");
        }
    });
    let code = verdict(&production.admin(), &forge.build()).await;
    if code.starts_with("accepted") {
        production.admin().import(&forge.build(), json!({})).await;
        let now: Vec<Value> = production.admin().catalogue().await.iter().map(comparable).collect();
        assert_eq!(now, honest.catalogue);
    } else {
        assert_eq!(code, "package_tampered");
    }
    production.end().await;
}

#[tokio::test]
async fn an_owner_who_cannot_be_one_is_nobody() {
    let production = Environment::start("production").await;
    let mut forge = Forge::of(&honest().await.package);
    forge.edit("resources/00001.ndjson", |lines| {
        lines[0]["owner"] = json!("a\0b");
        lines[1]["owner"] = json!("o".repeat(100_000));
    });
    let record = production.admin().import(&forge.build(), json!({})).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    assert!(production.admin().catalogue().await.iter().all(|resource| resource["owner"] == "admin"));
    production.end().await;
}

#[tokio::test]
async fn bombs_are_refused() {
    let honest = honest().await;
    let zeros = vec![b'0'; 3 * 1024 * 1024];
    let attachment = {
        let mut forge = Forge::of(&honest.package);
        forge.files.push((format!("attachments/{}", sha256(&zeros)), zeros.clone()));
        forge.build()
    };
    let shard = {
        let mut forge = Forge::of(&honest.package);
        let line = format!("{{\"id\":\"ds\",\"x\":\"{}\"}}\n", String::from_utf8(zeros.clone()).unwrap());
        forge.files[1].1 = line.into_bytes();
        forge.build()
    };
    let manifest = {
        let mut forge = Forge::of(&honest.package);
        forge.manifest["padding"] = json!(String::from_utf8(zeros).unwrap());
        forge.build()
    };
    assert!(attachment.len() < 1024 * 1024 && manifest.len() < 1024 * 1024);
    let cases = vec![
        case("an attachment", attachment, "package_limit_exceeded"),
        case("a shard", shard, "package_limit_exceeded"),
        case("the manifest", manifest, "package_limit_exceeded"),
    ];
    assert_refused("", cases).await;
}

#[tokio::test]
async fn packages_over_a_limit_are_refused() {
    let honest = &honest().await.package;
    let cut = |limit: &str, package: Vec<u8>, code: &'static str| (format!("limits.{limit}"), package, code);
    let mut modest = Forge::of(honest);
    modest.manifest["counts"] = json!({"card": 1});
    for (limit, package, code) in [
        cut("max_package_bytes = 1000", honest.clone(), "too_large"),
        cut("max_unpacked_bytes = 500", honest.clone(), "package_limit_exceeded"),
        cut("max_resources = 4", honest.clone(), "package_limit_exceeded"),
        cut("max_resources = 4", modest.build(), "package_limit_exceeded"),
        cut("max_attachment_bytes = 10", honest.clone(), "package_limit_exceeded"),
    ] {
        assert_refused(&limit.clone(), vec![(limit, package, code)]).await;
    }
}

#[tokio::test]
async fn no_honest_package_meets_the_limit_of_the_ratio() {
    let (test, production) = (Environment::start("test").await, Environment::start("production").await);
    let fields: Vec<Value> = (0..8_000).map(|n| json!({"id": format!("{}{n}", "f".repeat(250))})).collect();
    test.admin().resource("wide", "dataset", "Wide", "/", json!({"fields": fields})).await;
    let record = production.admin().import(&test.admin().export_all().await, json!({})).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    test.end().await;
    production.end().await;
}

#[tokio::test]
async fn a_flipped_bit_is_refused_or_makes_no_difference() {
    let honest = honest().await;
    let production = Environment::start("production").await;
    let user = production.admin();
    let mut seed = 0x5eed_1234_u64;
    let mut refused = 0;
    for _ in 0..100 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bit = (seed >> 16) as usize % (honest.package.len() * 8);
        let mut package = honest.package.clone();
        package[bit / 8] ^= 1 << (bit % 8);
        let code = verdict(&user, &package).await;
        if code.starts_with("package_") {
            refused += 1;
            continue;
        }
        assert!(code.starts_with("accepted"), "bit {bit}: {code}");
        user.import(&package, json!({})).await;
        let now: Vec<Value> = user.catalogue().await.iter().map(comparable).collect();
        assert_eq!(now, honest.catalogue, "bit {bit}");
        let attachment = user.get("/api/v1/attachments/images/a.png").await;
        assert_eq!(attachment.bytes, b"the bytes of a picture", "bit {bit}");
    }
    assert!(refused > 50, "{refused}");
    production.end().await;
}

#[tokio::test]
async fn packages_packed_again_stay_readable() {
    let honest = honest().await;
    let parts = entries(&honest.package);
    let borrowed = || parts.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    let with_folders = {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        for folder in ["attachments/", "resources/"] {
            writer.add_directory(folder, options).unwrap();
        }
        for (name, bytes) in borrowed() {
            writer.start_file(name, options).unwrap();
            std::io::Write::write_all(&mut writer, bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    };
    let reversed: Vec<_> = parts.clone().into_iter().rev().collect();
    let raw: Vec<Raw> = borrowed().map(|(name, bytes)| Raw::new(name, bytes)).collect();
    let variants = [
        ("by name", zip(borrowed())),
        ("backwards", packed(&reversed)),
        ("as a stream", streamed(borrowed())),
        ("with folders", with_folders),
        ("stored", raw_zip(&raw)),
    ];
    for (name, package) in variants {
        let production = Environment::start("production").await;
        let record = production.admin().import(&package, json!({})).await;
        assert_eq!(record["status"], "succeeded", "{name}: {record}");
        let now: Vec<Value> = production.admin().catalogue().await.iter().map(comparable).collect();
        assert_eq!(now, honest.catalogue, "{name}");
        production.end().await;
    }
}

#[tokio::test]
async fn a_signature_is_one_line_of_the_environment_that_the_manifest_names() {
    let forge = Forge::of(&honest().await.package);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut parts = forge.parts();
        let envelope = &mut parts.last_mut().unwrap().1;
        let mut changed: Value = serde_json::from_slice(envelope).unwrap();
        change(&mut changed["signatures"]);
        *envelope = serde_json::to_vec(&changed).unwrap();
        packed(&parts)
    };
    let refused = "package_tampered";
    let cases = vec![
        case("another key ID", with(&|lines| lines[0]["keyid"] = json!("another")), refused),
        case("no key ID", with(&|lines| lines[0]["keyid"] = json!("")), refused),
        case("no line", with(&|lines| *lines = json!([])), refused),
        case("the same line twice", with(&|lines| *lines = json!([lines[0], lines[0]])), refused),
        case("very many lines", with(&|lines| *lines = vec![lines[0].clone(); 100].into()), refused),
        case(
            "many lines of others",
            with(&|lines| {
                let other = json!({"keyid": "other", "sig": lines[0]["sig"]});
                let mut all = vec![other; 100];
                all.push(lines[0].clone());
                *lines = all.into();
            }),
            refused,
        ),
    ];
    assert_refused("", cases).await;
    let production = Environment::start("production").await;
    let countersigned = with(&|lines| *lines = json!([{"keyid": "another", "sig": "AAAA"}, lines[0]]));
    assert!(verdict(&production.admin(), &countersigned).await.starts_with("accepted"));
    production.end().await;
}

#[tokio::test]
async fn a_manifest_is_small_in_memory_too() {
    let production = Process::start("production").await;
    let user = production.admin();
    let mut forge = Forge::of(&honest().await.package);
    let before = production.peak_memory();
    // As much as fits into so many packed bytes: IDs of a letter, references of nothing.
    forge.manifest["roots"] = vec!["r"; 5_000_000].into();
    assert_eq!(verdict(&user, &forge.build()).await, "package_limit_exceeded");
    let missing =
        json!({"resource_id": null, "type": "", "name": null, "role": "", "kind": "use", "referenced_by": ""});
    forge.manifest["roots"] = json!([]);
    forge.manifest["missing"] = vec![missing; 1_000_000].into();
    assert_eq!(verdict(&user, &forge.build()).await, "package_limit_exceeded");
    let after = production.peak_memory() - before;
    assert!(after < 100 * 1024, "{after} KiB more");
    production.end().await;
}

#[tokio::test]
async fn a_package_that_is_only_uploaded_binds_nobody() {
    let production = Environment::start("production").await;
    let (user, other) = (production.admin(), production.new_user("other", "admin").await);
    let real = Forge::of(&honest().await.package);
    let mut impostor = Forge::of(&honest().await.package);
    impostor.manifest["environment"]["id"] = real.manifest["environment"]["id"].clone();
    let waits = "accepted: \"awaiting_confirmation\"";
    assert_eq!(verdict(&user, &impostor.build()).await, waits);
    assert_eq!(verdict(&user, &real.build()).await, waits);
    assert_eq!(user.get("/api/v1/pinned-sources").await.is(200)["items"], json!([]));

    let forged = user.upload(&impostor.build()).await;
    assert_eq!(user.import(&real.build(), json!({})).await["status"], "succeeded");
    // From here on the key is known, also to what waits.
    user.post_package(&impostor.build()).await.problem(422, "package_untrusted");
    let execute = format!("/api/v1/imports/{}/execute", forged["id"].as_str().unwrap());
    user.post(&execute, json!({})).await.problem(422, "package_untrusted");
    // In this domain alone.
    assert_eq!(verdict(&other, &impostor.build()).await, waits);
    assert_eq!(other.get("/api/v1/pinned-sources").await.is(200)["items"], json!([]));

    let pins = user.get("/api/v1/pinned-sources").await.is(200)["items"].clone();
    assert_eq!(pins.as_array().unwrap().len(), 1, "{pins}");
    let environment = &real.manifest["environment"];
    for (field, value) in [("environment_id", "id"), ("name", "name"), ("kind", "kind"), ("public_key", "public_key")] {
        assert_eq!(pins[0][field], environment[value]);
    }
    let address = format!("/api/v1/pinned-sources/{}", pins[0]["id"].as_str().unwrap());
    other.delete(&address).await.problem(404, "not_found");
    user.delete(&address).await.is(204);
    assert_eq!(verdict(&user, &impostor.build()).await, waits);
    for action in ["key.pin", "key.unpin"] {
        let rows = user.get(&format!("/api/v1/audit?action={action}")).await.is(200)["items"].clone();
        assert_eq!(rows.as_array().unwrap().len(), 1, "{action} is told once: {rows}");
    }
    production.end().await;
}

#[tokio::test]
async fn a_package_that_claims_to_come_from_this_very_environment_needs_its_key() {
    let production = Environment::start("production").await;
    let user = production.admin();
    let mut forge = Forge::of(&honest().await.package);
    forge.manifest["environment"]["id"] = user.get("/api/v1/environment").await.is(200)["id"].clone();
    assert_eq!(verdict(&user, &forge.build()).await, "package_untrusted");
    user.resource("own", "card", "Own", "/", json!({})).await;
    let record = user.import(&user.export_all().await, json!({})).await;
    assert_eq!(record["status"], "succeeded", "its own packages come home: {record}");
    production.end().await;
}
