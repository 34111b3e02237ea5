//! `secrets.sealed` that lies.

use std::time::{Duration, Instant};

use ferry::secrets::envelope::{Belongs, Recipient, seal};
use serde_json::{Value, json};

use super::passphrases::{PASSPHRASE, export, post_form, secret};
use crate::failures::Pair;
use crate::support::User;
use crate::support::package::{Forge, packed};

/// The code of a refusal; an accepted package gives the state in which it waits.
async fn verdict(user: &User, package: &[u8], passphrase: &str) -> String {
    let answer = post_form(user, package, Some(passphrase), true).await;
    if answer.status != 202 {
        return answer.json()["code"].as_str().unwrap().to_owned();
    }
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let record = user.wait(&id, |status| !matches!(status, "queued" | "running")).await;
    match record["error"]["code"].as_str() {
        Some(code) if record["status"] == "failed" => code.to_owned(),
        _ => format!("accepted: {}", record["status"]),
    }
}

/// A package with other bytes as its `secrets.sealed`, honestly signed.
fn forged(package: &[u8], sealed: impl FnOnce(&Forge, &[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut forge = Forge::of(package);
    let at = forge.files.iter().position(|(name, _)| name == "secrets.sealed").unwrap();
    forge.files[at].1 = sealed(&forge, &forge.files[at].1);
    forge.build()
}

/// A payload sealed as the forge's own export would.
fn own(forge: &Forge, payload: &[u8]) -> Vec<u8> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (environment, record) = (text(&forge.manifest["environment"]["id"]), text(&forge.manifest["record_id"]));
    seal(&Recipient::Passphrase(PASSPHRASE), Belongs { environment: &environment, record: &record }, payload).unwrap()
}

#[tokio::test]
async fn secrets_that_lie_are_refused_and_leave_nothing() {
    let pair = Pair::start().await;
    let (from, to) = (&pair.from, &pair.to);
    let made = from.resource("acc", "data_account", "Warehouse", "/", json!({"password": "s3cret", "note": "n"})).await;
    let package = export(from).await;
    let header = |change: &dyn Fn(&mut Value)| {
        forged(&package, |forge, _| {
            let sealed = own(forge, b"");
            let end = sealed.iter().position(|byte| *byte == b'\n').unwrap();
            let mut line: Value = serde_json::from_slice(&sealed[..end]).unwrap();
            change(&mut line);
            [line.to_string().as_bytes(), &sealed[end..]].concat()
        })
    };
    let argon = |memory: u64, passes: u64, lanes: u64| {
        header(&|line| {
            line["for"]["passphrase"]["argon2id"] = json!({"memory_kib": memory, "passes": passes, "lanes": lanes});
        })
    };
    let line = |line: Value| forged(&package, |forge, _| own(forge, format!("{line}\n").as_bytes()));
    let bytes = |bytes: &[u8]| forged(&package, |_, _| bytes.to_vec());
    let location = json!([{"key": "password"}]);
    let twice = format!("{0}\n{0}\n", json!({"id": "acc", "secrets": [[location, "x"]]}));
    let elsewhere = |forge: &Forge| {
        let key = ferry::secrets::sealing_key(&[9; 32]);
        let belongs = Belongs { environment: forge.manifest["environment"]["id"].as_str().unwrap(), record: "r" };
        seal(&Recipient::Environment { id: "another", sealing_key: &key }, belongs, b"").unwrap()
    };
    let mut unsigned = Forge::of(&package).parts();
    let sealed = &mut unsigned.iter_mut().find(|(name, _)| name == "secrets.sealed").unwrap().1;
    let last = sealed.len() - 1;
    sealed[last] ^= 1;
    let mut unnamed = Forge::of(&package);
    let taken = unnamed.files.pop().unwrap();
    let mut unnamed = unnamed.parts();
    unnamed.insert(2, taken);
    let cases = [
        ("much memory", argon(64 * 1024 * 1024, 1, 1), "package_tampered"),
        ("all memory", argon(u64::from(u32::MAX), 1, 1), "package_tampered"),
        ("more than a number", argon(u64::MAX, 1, 1), "package_tampered"),
        ("no memory", argon(0, 1, 1), "package_tampered"),
        ("many passes", argon(8, u64::from(u32::MAX), 1), "package_tampered"),
        ("much of both", argon(256 * 1024, 16, 1), "package_tampered"),
        ("no pass", argon(8, 0, 1), "package_tampered"),
        ("many lanes", argon(256 * 1024, 1, 0x00ff_ffff), "package_tampered"),
        ("weak, but another", argon(64, 1, 1), "passphrase_wrong"),
        ("a newer form", header(&|line| line["format"] = json!(2)), "package_format_newer"),
        ("no form", header(&|line| line["format"] = json!("1")), "package_tampered"),
        ("a field more", header(&|line| line["more"] = json!(1)), "package_tampered"),
        ("a short nonce", header(&|line| line["nonce"] = json!("AAAA")), "package_tampered"),
        ("another nonce", header(&|line| line["nonce"] = json!("A".repeat(32))), "passphrase_wrong"),
        ("no salt", header(&|line| line["for"]["passphrase"]["salt"] = json!("")), "package_tampered"),
        ("for nobody", header(&|line| line["for"] = json!({"nobody": {}})), "package_tampered"),
        ("a long line", header(&|line| line["nonce"] = json!("A".repeat(5000))), "package_tampered"),
        ("empty", bytes(b""), "package_tampered"),
        ("no line", bytes(&[b'x'; 10_000]), "package_tampered"),
        ("a line alone", bytes(b"{}\n"), "package_tampered"),
        ("of another record", forged(&package, |_, sealed| sealed.to_vec()), "passphrase_wrong"),
        ("cut off", forged(&package, |forge, _| own(forge, &[b'\n'; 400])[..300].to_vec()), "passphrase_wrong"),
        ("for another target", forged(&package, |forge, _| elsewhere(forge)), "package_incomplete"),
        ("changed after signing", packed(&unsigned), "package_tampered"),
        ("not in the manifest", packed(&unnamed), "package_tampered"),
        ("of a stranger", line(json!({"id": "other", "secrets": []})), "package_tampered"),
        ("twice", forged(&package, |forge, _| own(forge, twice.as_bytes())), "package_tampered"),
        ("no object", line(json!([1])), "package_tampered"),
        ("no text", line(json!({"id": "acc", "secrets": [[location, {"s3cret": 1}]]})), "package_tampered"),
        ("no JSON", forged(&package, |forge, _| own(forge, b"{s3cret")), "package_tampered"),
    ];
    let began = Instant::now();
    let mut wrong = Vec::new();
    for (name, package, expected) in &cases {
        let code = verdict(to, package, PASSPHRASE).await;
        if code != *expected {
            wrong.push(format!("{name}: {code}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
    let records = to.get("/api/v1/records").await.text();
    assert!(!records.contains("s3cret"), "{records}");

    // Places that hold no secret are left alone, whatever a payload says.
    let places = json!([
        [[{"key": "note"}], "s3cret-note"], [[], "s3cret-top"], [[{"key": "password"}, {"key": "$sealed"}], "s3cret-deep"],
        [[{"element": [18446744073709551615u64, null]}], "s3cret-far"], [[{"key": "options"}, {"key": "token"}], "s3cret-none"],
        [[{"key": "password"}], "taken"], [[{"key": "password"}], "late"], [[{"key": "private_key"}], "more"],
    ]);
    let package = line(json!({"id": "acc", "secrets": places}));
    let record = super::passphrases::import(to, &package, PASSPHRASE, json!({})).await;
    assert_eq!(record["status"], "succeeded", "{record}");
    assert_eq!(secret(&pair.production, "acc", "/password").await, "taken");
    assert_eq!(secret(&pair.production, "acc", "/private_key").await, "more");
    let now = to.get("/api/v1/resources/acc").await;
    assert!(!now.text().contains("s3cret"));
    assert_eq!(now.json()["content_hash"], made["content_hash"]);

    // What claims to rest sealed in a definition is nobody's secret.
    let mut forge = Forge::of(&from.export_all().await);
    forge.edit("resources/00001.ndjson", |lines| lines[0]["definition"]["private_key"] = json!({"$sealed": "forged"}));
    to.delete("/api/v1/resources/acc").await.is(204);
    let restore = json!({"resolutions": {"acc": {"action": "restore"}}});
    to.import(&forge.build(), restore).await;
    assert_eq!(secret(&pair.production, "acc", "/private_key").await, Value::Null);
    pair.end().await;
}
