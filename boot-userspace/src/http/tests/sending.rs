//! Files whose bytes leave without passing through the process.

use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use axum::body::{Body, Bytes, HttpBody as _};
use tempfile::NamedTempFile;

use super::super::body::{self, Segment};
use super::super::delivery::{Delivery, Recipient};
use super::super::ending::Ending;
use super::super::outbox::Outbox;
use super::*;
use crate::host::reserved::{LONGEST, offset_of};

const LARGE: usize = 40_000_000;

/// No two megabytes of it are the same.
fn large_file() -> Vec<u8> {
    (0..LARGE as u32 / 4).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// A request on a connection of its own, and the path of the large file that it is about.
async fn begin(rig: &Rig, content: &[u8]) -> (TcpStream, std::path::PathBuf) {
    let path = rig.dir.path().join("boot/large");
    fs::write(&path, content).unwrap();
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(b"GET /files/large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut begin = [0; 1000];
    stream.read_exact(&mut begin).await.unwrap();
    (stream, path)
}

/// What still comes, however the connection ends.
async fn rest(mut stream: TcpStream) -> usize {
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest).await);
    rest.len()
}

fn delivery(file: &NamedTempFile, wanted: u64) -> Delivery {
    let dir = file.path().parent().unwrap().to_path_buf();
    let opened = BootFiles::new(dir, BTreeMap::new())
        .open_plain(file.path().file_name().unwrap().to_str().unwrap())
        .unwrap();
    let (client, events) = (Ipv4Addr::LOCALHOST.into(), std::sync::Arc::new(()));
    let to = Recipient { machine: None, client, file: "file".into(), ending: Ending::default(), events };
    Delivery::new(opened, false, wanted, to)
}

#[tokio::test]
async fn a_body_has_stand_ins_for_what_is_worth_a_system_call() {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(2 * LONGEST as u64).unwrap();
    file.as_file().write_all_at(b"0123456789", 0).unwrap();
    let next = |body: &mut Body| -> Bytes {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(body).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap(),
            other => panic!("{other:?}"),
        }
    };
    // In the page cache, so that nothing waits.
    fs::read(file.path()).unwrap();
    let long = LONGEST as u64 + 20_000;
    let segments = || {
        vec![Segment::Text("head".into()), Segment::File(0..10), Segment::File(0..0), Segment::File(0..long)]
    };
    let mut sent = body::body(delivery(&file, long + 10), segments(), Some(Outbox::default()));
    assert_eq!(sent.size_hint().exact(), Some(long + 14));
    assert_eq!(next(&mut sent), "head");
    assert_eq!(next(&mut sent), "0123456789");
    for length in [LONGEST, 20_000] {
        let stand_in = next(&mut sent);
        assert_eq!((offset_of(&stand_in), stand_in.len()), (Some(0), length));
    }
    assert!(sent.is_end_stream());
    // A connection that has to look at every byte has no outbox.
    let mut read = body::body(delivery(&file, long + 10), segments(), None);
    let mut length = 0;
    while !read.is_end_stream() {
        let bytes = next(&mut read);
        assert_eq!(offset_of(&bytes), None);
        length += bytes.len() as u64;
    }
    assert_eq!(length, long + 14);
}

#[test]
fn what_the_disk_has_to_give_is_known_and_waited_for() {
    let file = NamedTempFile::new().unwrap();
    file.as_file().write_all_at(&vec![7; 2_000_000], 0).unwrap();
    file.as_file().sync_all().unwrap();
    let delivery = delivery(&file, 2_000_000);
    if super::super::delivery::has_no_disk(file.as_file()) {
        return;
    }
    rustix::fs::fadvise(file.as_file(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
    assert!(!delivery.is_at_hand(500_000, 1_000_000));
    delivery.fetch(500_000, 1_000_000).unwrap();
    assert!(delivery.is_at_hand(500_000, 1_000_000));
}

#[tokio::test]
async fn answers_on_one_connection_follow_each_other_byte_by_byte() {
    let rig = rig().await;
    let large = large_file();
    fs::write(rig.dir.path().join("boot/large"), &large).unwrap();
    let requests: [(&str, &str, &[u8]); 7] = [
        ("GET /files/large", "", &large),
        ("GET /files/snponly.efi", "", b"0123456789"),
        ("HEAD /files/large", "", b""),
        ("GET /files/large", "Range: bytes=17000001-17100000", &large[17_000_001..17_100_001]),
        ("GET /files/missing", "", b"no such file\n"),
        ("GET /files/large", "Range: bytes=-16777217", &large[LARGE - 16_777_217..]),
        ("GET /files/talos/vmlinuz", "", &big_file()),
    ];
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let all: String = requests
        .iter()
        .map(|(line, header, _)| {
            let header = if header.is_empty() { "X: x" } else { header };
            format!("{line} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n")
        })
        .collect();
    stream.write_all(all.as_bytes()).await.unwrap();
    for (line, header, expected) in requests {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        assert_eq!(
            length.parse(),
            Ok(if line.starts_with("HEAD") { LARGE } else { expected.len() }),
            "{head}"
        );
        let mut body = vec![0; expected.len()];
        stream.read_exact(&mut body).await.unwrap();
        assert!(body == expected, "{line} {header}: other bytes");
    }
}

#[tokio::test]
async fn several_ranges_come_as_parts_of_one_answer() {
    let rig = rig().await;
    let big = big_file();
    let answer = rig.ask("GET /files/talos/vmlinuz\nRange: bytes=5-9, 300000-899999, -3, 2000000-").await;
    assert_eq!(answer.status, 206);
    let boundary = answer.header("content-type").strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut expected = Vec::new();
    for (first, last) in [(5, 9), (300_000, 899_999), (1_000_000, 1_000_002)] {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {first}-{last}/1000003\r\n\r\n"
        );
        expected.extend_from_slice(head.as_bytes());
        expected.extend_from_slice(&big[first..=last]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert!(answer.body == expected, "{:?}", String::from_utf8_lossy(&answer.body[..200]));
    // Who asks for thousands gets the file, and no more.
    let thousands: String = (0..3000).map(|first| format!("{first}-{first},")).collect();
    let request = format!("GET /files/talos/vmlinuz\nRange: bytes={}", thousands.trim_end_matches(','));
    let answer = rig.ask(&request[..15_000]).await;
    assert_eq!((answer.status, answer.body.len()), (200, 1_000_003));
    let overlapping = rig.ask("GET /files/talos/vmlinuz\nRange: bytes=0-,0-,0-").await;
    assert_eq!((overlapping.status, overlapping.body.len()), (200, 1_000_003));
}

#[tokio::test]
async fn a_file_that_is_written_to_ends_the_connection() {
    let rig = rig().await;
    let (stream, path) = begin(&rig, &large_file()).await;
    fs::File::options().write(true).open(&path).unwrap().write_all_at(b"another", 30_000_000).unwrap();
    let got = rest(stream).await;
    assert!(got < LARGE - 1000, "{got} bytes of a file that was written to");
    assert_eq!(rig.ask("GET /files/large").await.body.len(), LARGE, "the next one gets it as it is now");
}

#[tokio::test]
async fn a_file_that_is_cut_ends_the_connection() {
    let rig = rig().await;
    for left in [0, 20_000_000] {
        let (stream, path) = begin(&rig, &large_file()).await;
        fs::File::options().write(true).open(&path).unwrap().set_len(left).unwrap();
        let got = rest(stream).await;
        assert!(got < LARGE - 1000, "{got} bytes of a file that was cut");
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_is_sent_as_it_was() {
    let rig = rig().await;
    let (mut stream, path) = begin(&rig, &large_file()).await;
    let new = path.with_extension("new");
    fs::write(&new, vec![7; LARGE]).unwrap();
    fs::rename(&new, &path).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert!(large_file().ends_with(&got) && got.len() > LARGE - 1000, "{} bytes", got.len());
}

#[tokio::test]
async fn a_pipe_is_no_boot_file_and_nobody_waits_for_it() {
    let rig = rig().await;
    let pipe = rig.dir.path().join("boot/pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink("/dev/zero", rig.dir.path().join("boot/zero")).unwrap();
    for path in ["/files/pipe", "/files/zero"] {
        let answer =
            tokio::time::timeout(std::time::Duration::from_secs(5), rig.ask(&format!("GET {path}"))).await;
        assert_eq!(answer.unwrap().status, 403, "{path}");
    }
}
