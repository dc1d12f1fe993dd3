//! Which bytes of files are sent, and which files never are.

use super::*;

#[tokio::test]
async fn ranges_and_conditions() {
    let rig = rig().await;
    let etag = rig.ask("HEAD /files/snponly.efi").await.header("etag").to_owned();
    let get = |headers: String| format!("GET /files/snponly.efi\n{headers}");

    let part = rig.ask(&get(format!("Range: bytes=7-\nIf-Match: {etag}\nIf-Range: {etag}"))).await;
    assert_eq!((part.status, part.body.as_slice()), (206, &b"789"[..]));
    assert_eq!((part.header("content-range"), part.header("etag")), ("bytes 7-9/10", etag.as_str()));

    let none = rig.ask(&get("Range: bytes=10-".to_owned())).await;
    assert_eq!((none.status, none.header("content-range")), (416, "bytes */10"));
    assert_eq!(rig.ask(&get("Range: bytes=7-\nIf-Range: \"old\"".to_owned())).await.body.len(), 10);
    assert_eq!(rig.ask(&get(format!("If-None-Match: {etag}"))).await.status, 304);
    assert_eq!(rig.ask(&get("Range: bytes=7-\nIf-Match: \"old\"".to_owned())).await.status, 412);
    assert_eq!(rig.ask("HEAD /files/snponly.efi\nRange: bytes=7-").await.header("content-length"), "10");

    fs::write(rig.dir.path().join("boot/snponly.efi"), "9876543210").unwrap();
    assert_ne!(rig.ask("HEAD /files/snponly.efi").await.header("etag"), etag);
}

#[tokio::test]
async fn nothing_outside_the_boot_directory() {
    let rig = rig().await;
    for (path, status) in [
        ("/files/../secret", 403),
        ("/files/talos/../../secret", 403),
        ("/files/..\\secret", 403),
        ("/files/link", 403),
        ("/files/talos", 403),
        ("/files/%2e%2e/secret", 403),
        ("/files/..%2fsecret", 403),
        ("/files/..%5Csecret", 403),
        ("/files/%2E%2E%2Fsecret", 403),
        ("/files/talos/%2e%2e/..%2fsecret", 403),
        ("/files/%252e%252e/secret", 404),
        ("/files/vmlinuz%00.efi", 400),
        ("/files/%0a", 400),
        ("/files/%7f", 400),
        ("/files/%ff", 400),
        ("/files/%c0%ae%c0%ae/secret", 400),
        ("/files/%", 400),
        ("/files/%4", 400),
        ("/files/secret", 404),
        ("/files//etc/passwd", 404),
        ("/files/", 404),
        ("/secret", 404),
        ("/", 404),
    ] {
        let answer = rig.ask(&format!("GET {path}")).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(!answer.body.starts_with(b"secret"));
    }
}

#[tokio::test]
async fn names_that_stay_inside_are_served_however_they_are_written() {
    let rig = rig().await;
    for path in [
        "/files/talos/../snponly.efi",
        "/files/arm/../snponly.efi",
        "/files/arm%2f..%2Fsnponly.efi",
        "/files/%2e/talos/%2E%2e/snponly%2eefi",
        "/files/talos%5c..%5Csnponly.efi",
        "/files/talos\\..\\snponly.efi",
        "/tftp/talos/./../snponly.efi",
    ] {
        let answer = rig.ask(&format!("GET {path}")).await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"0123456789"[..]), "{path}");
    }
    // Decoded once: this one's name has a percent sign.
    fs::write(rig.dir.path().join("boot/a%20b"), "percent").unwrap();
    assert_eq!(rig.ask("GET /files/a%2520b").await.body, b"percent");
    assert_eq!(rig.ask("GET /files/a%20b").await.status, 404);
}

#[tokio::test]
async fn a_file_that_shrinks_ends_the_connection() {
    let rig = rig().await;
    let path = rig.dir.path().join("boot/shrinks");
    let file = fs::File::create(&path).unwrap();
    file.set_len(200_000_000).unwrap();
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(b"GET /files/shrinks HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut begin = [0; 100];
    stream.read_exact(&mut begin).await.unwrap();
    file.set_len(10_000_000).unwrap();
    let mut rest = Vec::new();
    // The end of the connection, cleanly or not, is what tells the client.
    drop(stream.read_to_end(&mut rest).await);
    assert!(rest.len() < 200_000_000);
    assert_eq!(rig.ask("GET /healthz").await.status, 200);
}
