//! A server of pixiecore's API decides about machines that the configuration leaves to it.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::fronts::{CONFIG, OWN, served_with};
use crate::daemon::request::ParametersHandle;

/// As its clients know it: `GET PREFIX/v1/boot/MAC`.
async fn api() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let (status, body) = match head.split(' ').nth(1).unwrap() {
                "/prefix/v1/boot/52:54:00:00:00:01" => (
                    200,
                    r#"{ "kernel": "/k", "initrd": ["http://h/i"], "cmdline": "c={{ URL \"/x\" }}", "message": "hello" }"#,
                ),
                "/prefix/v1/boot/52:54:00:00:00:02" => {
                    (200, r##"{ "ipxe-script": "#!ipxe\nsanboot http://h/d\n" }"##)
                }
                "/prefix/v1/boot/52:54:00:00:00:03" => (200, "{"),
                _ => (404, ""),
            };
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_server_of_pixiecore_s_api_says_what_machines_boot() {
    let api = api().await;
    let key = format!("[http]\npixiecore_api = \"http://{api}/prefix\"\n");
    let config = CONFIG.replace("[http]\n", &key);
    let served = served_with(&config, |scripts| scripts, ParametersHandle::none()).await;
    let script = async |mac: &str| served.text(&format!("GET /ipxe/boot.ipxe?mac={mac}&arch=x86_64")).await;
    let own = served.text(&format!("GET /ipxe/boot.ipxe?mac=52-54-00-00-00-01&arch=x86_64{OWN}")).await;
    let kernel =
        format!("kernel --name kernel http://{api}/k initrd=initrd0 c=http://{api}/x || goto retry\n");
    assert!(own.contains(&kernel) && own.contains("initrd --name initrd0 http://h/i "), "{own}");
    assert!(own.contains("(hello)") && own.contains(":retry\n"), "{own}");
    // Another front's client gets the same.
    let smee = served.text(&format!("GET /ipxe/script/52:54:00:00:00:01/auto.ipxe{OWN}")).await;
    assert!(smee.contains(&kernel), "{smee}");
    assert_eq!(script("52-54-00-00-00-02").await, "#!ipxe\nsanboot http://h/d\n");
    // Whoever is not to be booted goes on to its next boot entry; whoever may be asks again.
    let ignored = script("52-54-00-00-00-04").await;
    assert!(ignored.contains("404") && ignored.ends_with("exit 1\n"), "{ignored}");
    let broken = script("52-54-00-00-00-03").await;
    assert!(broken.contains("document that is wrong") && broken.contains("goto wait"), "{broken}");
    // What the configuration says of one machine goes before it.
    let own_profile = config.replace("args = \"own=1\"", "args = \"own=1\"\nprofile = \"talos\"");
    let served = served_with(&own_profile, |scripts| scripts, ParametersHandle::none()).await;
    let own = served.text(&format!("GET /ipxe/boot.ipxe?mac=52-54-00-00-00-01&arch=x86_64{OWN}")).await;
    assert!(own.contains("/files/talos/vmlinuz"), "{own}");
}
