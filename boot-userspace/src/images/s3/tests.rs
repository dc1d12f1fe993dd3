use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn upstream(dir: &Path) -> Upstream {
    fs::write(dir.join("a"), "AKIDEXAMPLE\n").unwrap();
    fs::write(dir.join("s"), "verysecretkey\n").unwrap();
    fs::set_permissions(dir.join("s"), Permissions::from_mode(0o600)).unwrap();
    Upstream {
        url: "s3://boot".to_owned(),
        endpoint: Some("http://10.0.0.9:9000".to_owned()),
        region: "eu-1".to_owned(),
        access_key_file: Some(dir.join("a")),
        secret_key_file: Some(dir.join("s")),
        certificate: None,
        presigned: None,
    }
}

#[tokio::test]
async fn objects_are_asked_for_by_signed_urls_that_do_not_have_the_secret() {
    let dir = tempfile::tempdir().unwrap();
    let signed =
        locate("s3://boot/talos/vm linuz+1", Some(&upstream(dir.path())), Duration::from_secs(86_400))
            .await
            .unwrap()
            .to_string();
    assert!(signed.starts_with("http://10.0.0.9:9000/boot/talos/vm%20linuz%2B1?"), "{signed}");
    assert!(signed.contains("X-Amz-Signature=") && signed.contains("eu-1"), "{signed}");
    assert!(signed.contains("X-Amz-Expires=86400"), "{signed}");
    assert!(!signed.contains("verysecret"), "{signed}");
}

#[tokio::test]
async fn public_objects_are_asked_for_without_a_signature() {
    let dir = tempfile::tempdir().unwrap();
    let public = Upstream { access_key_file: None, secret_key_file: None, ..upstream(dir.path()) };
    let url = locate("s3://boot/talos/vm linuz", Some(&public), SIGNED_FOR).await.unwrap();
    assert_eq!(url.as_str(), "http://10.0.0.9:9000/boot/talos/vm%20linuz");
    let url = locate("s3://boot/k", None, SIGNED_FOR).await.unwrap();
    assert_eq!(url.as_str(), "https://boot.s3.us-east-1.amazonaws.com/k");
}

#[tokio::test]
async fn a_key_that_is_none_is_told_without_showing_it() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = upstream(dir.path());
    fs::write(dir.path().join("s"), "two words").unwrap();
    let said = locate("s3://boot/k", Some(&upstream), SIGNED_FOR).await.unwrap_err();
    assert!(said.contains("one key and nothing else") && !said.contains("words"), "{said}");
    fs::set_permissions(dir.path().join("s"), Permissions::from_mode(0o644)).unwrap();
    let said = locate("s3://boot/k", Some(&upstream), SIGNED_FOR).await.unwrap_err();
    assert!(said.contains("can be read by everybody"), "{said}");
    fs::remove_file(dir.path().join("s")).unwrap();
    let said = locate("s3://boot/k", Some(&upstream), SIGNED_FOR).await.unwrap_err();
    assert!(said.contains("cannot be read"), "{said}");
}
