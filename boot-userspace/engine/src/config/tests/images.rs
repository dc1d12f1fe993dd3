//! `[images]`, and images in profiles.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::config::{Arch, DEFAULT_IMAGES_SIZE, ImageRef};

const PROXY: &str = "[[interface]]\nname = \"eth1\"\ndhcp = \"proxy\"\n";

fn told(text: &str) -> Vec<String> {
    let problems = parse(&format!("{text}\n{PROXY}"), "t").unwrap_err();
    problems
        .0
        .iter()
        .map(|problem| format!("{}: {}: {}", problem.line.unwrap_or(0), problem.key, problem.message))
        .collect()
}

#[test]
fn the_store_has_a_size_and_upstreams() {
    let images = parse(PROXY, "t").unwrap().images;
    assert_eq!(
        (images.size, images.check, images.upstreams.len()),
        (DEFAULT_IMAGES_SIZE, Duration::from_secs(3600), 0)
    );
    let text = "[images]\nsize = \"2T\"\ncheck = \"10m\"\n\
        [[images.upstream]]\nurl = \"s3://boot\"\nendpoint = \"http://10.0.0.9:9000/\"\nregion = \"eu-1\"\n\
        access_key_file = \"/k/a\"\nsecret_key_file = \"/k/s\"\npresigned = \"24h\"\n\
        [[images.upstream]]\nurl = \"https://site/images/\"\ncertificate = \"/k/ca.pem\"\n";
    let images = parse(&format!("{text}{PROXY}"), "t").unwrap().images;
    assert_eq!((images.size, images.check), (2 << 40, Duration::from_secs(600)));
    let s3 = images.upstream("s3://boot/talos/vmlinuz").unwrap();
    assert_eq!((s3.endpoint.as_deref(), s3.region.as_str()), (Some("http://10.0.0.9:9000"), "eu-1"));
    assert_eq!(s3.secret_key_file, Some(PathBuf::from("/k/s")));
    assert_eq!(s3.presigned, Some(Duration::from_secs(86_400)));
    assert_eq!(images.upstream("https://site/images/x").unwrap().presigned, None);
    assert_eq!(images.upstream("s3://boots/talos/vmlinuz"), None, "another bucket");
    assert_eq!(
        images.upstream("https://site/images/x").unwrap().certificate,
        Some(PathBuf::from("/k/ca.pem"))
    );
    assert_eq!(images.upstream("https://site/image"), None);
}

#[test]
fn what_is_wrong_with_the_store_has_its_key_and_line() {
    for (text, expected) in [
        ("[images]\nsize = \"20GB\"", "2: images.size: \"20GB\" is not an amount"),
        ("[images]\nsize = true", "2: images.size: has to be a text"),
        ("[images]\ncheck = \"0s\"", "2: images.check: \"0s\" is too short"),
        ("[images]\nlimit = \"1G\"", "2: images.limit: there is no such key"),
        ("[[images.upstream]]\nendpoint = \"http://h\"", "1: images.upstream[0].url: is missing"),
        ("[[images.upstream]]\nurl = \"ftp://h\"", "2: images.upstream[0].url: \"ftp://h\" is not fetched"),
        ("[[images.upstream]]\nurl = \"s3://\"", "2: images.upstream[0].url: "),
        (
            "[[images.upstream]]\nurl = \"https://h/?x\"",
            "2: images.upstream[0].url: \"https://h/?x\" is not how",
        ),
        (
            "[[images.upstream]]\nurl = \"s3://b\"\nendpoint = \"h:9000\"",
            "3: images.upstream[0].endpoint: \"h:9000\" is no URL",
        ),
        (
            "[[images.upstream]]\nurl = \"s3://b\"\nregion = \"\"",
            "3: images.upstream[0].region: \"\" is not a region",
        ),
        (
            "[[images.upstream]]\nurl = \"s3://b\"\naccess_key_file = \"/k\"",
            "1: images.upstream[0]: has one of",
        ),
        (
            "[[images.upstream]]\nurl = \"s3://b\"\naccess_key_file = \"k\"\nsecret_key_file = \"/k\"",
            "3: images.upstream[0].access_key_file: \"k\" is not an absolute path",
        ),
        (
            "[[images.upstream]]\nurl = \"https://h\"\nregion = \"x\"",
            "3: images.upstream[0].region: is for S3 only",
        ),
        (
            "[[images.upstream]]\nurl = \"s3://b\"\npresigned = \"24h\"",
            "3: images.upstream[0].presigned: needs keys to sign with; write access_key_file",
        ),
        (
            "[[images.upstream]]\nurl = \"s3://b\"\naccess_key_file = \"/k\"\nsecret_key_file = \"/k\"\npresigned = \"4m\"",
            "5: images.upstream[0].presigned: \"4m\" is too short; write at least \"5m\"",
        ),
        (
            "[[images.upstream]]\nurl = \"s3://b\"\naccess_key_file = \"/k\"\nsecret_key_file = \"/k\"\npresigned = \"8d\"",
            "5: images.upstream[0].presigned: \"8d\" is longer than S3 allows; write at most \"7d\"",
        ),
        (
            "[[images.upstream]]\nurl = \"s3://b\"\n[[images.upstream]]\nurl = \"s3://b\"",
            "4: images.upstream[1].url: upstream \"s3://b\" is already at",
        ),
    ] {
        let said = told(text);
        assert!(said.len() == 1 && said[0].starts_with(expected), "{text}: {said:?}");
    }
}

#[test]
fn a_profile_boots_an_image() {
    let profile = |kernel: &str| {
        format!("{PROXY}[[profile]]\nname = \"p\"\nkernel = \"{kernel}\"\ninitrd = [\"image:initrd\"]\n")
    };
    let config = parse(&profile("image:s3://boot/vmlinuz"), "t").unwrap();
    let profile_p = &config.profiles["p"];
    let source = ImageRef::read(&profile_p.kernel).unwrap().unwrap().source.unwrap();
    assert_eq!(source.url, "s3://boot/vmlinuz");
    assert_eq!(ImageRef::read(&profile_p.initrd[0]).unwrap().unwrap().name.as_str(), "initrd");
    let on = |kernel: &str| {
        let of = format!("[profile.arch.arm64]\nkernel = \"{kernel}\"\ninitrd = [\"image:https://h/i\"]\n");
        parse(&(profile("image:vmlinuz") + &of), "t")
    };
    let arm64 = on("image:vmlinuz-arm64").unwrap().profiles["p"].arch[&Arch::Arm64].clone();
    assert_eq!(arm64.kernel.as_deref(), Some("image:vmlinuz-arm64"));
    assert_eq!(arm64.initrd.unwrap(), ["image:https://h/i"]);
    let said = on("image:a/b").unwrap_err().to_string();
    assert!(said.contains("t:9: profile[0].arch.arm64.kernel: \"a/b\" cannot be an image"), "{said}");
    let said = parse(&profile("image:../vmlinuz"), "t").unwrap_err().to_string();
    assert!(said.contains("t:6: profile[0].kernel: ") && said.contains("cannot be an image"), "{said}");
    let said = parse(&(profile("k") + "boot_file = \"image:x\"\n"), "t").unwrap_err().to_string();
    assert!(said.contains("only kernel and initrd can be"), "{said}");
}
