//! What is told of connections that the daemon ends, and of requests that no handler sees.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use boot_engine::events::{self, BootEvent, RefusedRequest, Sink, Step, WhyEnded};

use super::*;

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<events::Http>>>);

impl Sink for Told {
    fn emit(&self, event: BootEvent) {
        if let Step::Http(_, http) = event.step {
            self.0.lock().unwrap().push(http);
        }
    }
}

impl Told {
    /// Waits until something like that was told.
    async fn wait_for<T>(&self, wanted: impl Fn(&events::Http) -> Option<T>) -> T {
        let wait = async {
            loop {
                if let Some(found) = self.0.lock().unwrap().iter().find_map(&wanted) {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(200), wait).await;
        found.unwrap_or_else(|_| panic!("{:?}", self.0.lock().unwrap()))
    }
}

async fn served() -> (Rig, Told, Arc<ConnectionStats>) {
    let mut rig = rig().await;
    let (told, stats) = (Told::default(), Arc::<ConnectionStats>::default());
    let events: Events = Arc::new(told.clone());
    rig.site.events = Arc::clone(&events);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    rig.address = listener.local_addr().unwrap();
    let (routes, settings, counts) = (router(rig.site.clone()), Config::empty().http, Arc::clone(&stats));
    tokio::spawn(async move { serve(listener, routes, &settings, counts, events).await });
    (rig, told, stats)
}

/// A client that takes the beginning of a large file, and then nothing.
async fn begin(rig: &Rig) -> TcpStream {
    fs::write(rig.dir.path().join("boot/large"), vec![7; 30_000_000]).unwrap();
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(b"GET /files/large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    stream.read_exact(&mut [0; 100]).await.unwrap();
    stream
}

fn ended(http: &events::Http) -> Option<Option<WhyEnded>> {
    match http {
        events::Http::Ended { why, .. } => Some(Some(*why)),
        events::Http::Left { .. } => Some(None),
        _ => None,
    }
}

#[tokio::test]
async fn who_ended_a_connection_is_told() {
    let (rig, told, stats) = served().await;
    drop(begin(&rig).await);
    assert_eq!(told.wait_for(ended).await, None, "the client left");
    told.0.lock().unwrap().clear();
    let stream = begin(&rig).await;
    stats.stop().await;
    drop(stream);
    assert_eq!(told.wait_for(ended).await, Some(WhyEnded::Stopped));
}

/// `sanboot` asks for thousands of parts: the log has the beginning and the end of a file.
#[tokio::test]
async fn what_is_read_in_the_middle_of_a_file_is_told_apart() {
    let (rig, told, _) = served().await;
    fs::write(rig.dir.path().join("boot/disk"), vec![7; 3000]).unwrap();
    for (range, is_read) in [("0-511", false), ("512-1023", true), ("2488-2999", false)] {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        let request = format!("GET /files/disk HTTP/1.1\r\nHost: x\r\nRange: bytes={range}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let which = |http: &events::Http| match http {
            events::Http::Sent { bytes, .. } => Some((*bytes, false)),
            events::Http::Read { bytes, .. } => Some((*bytes, true)),
            _ => None,
        };
        assert_eq!(told.wait_for(which).await, (512, is_read), "{range}");
        told.0.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn what_no_handler_sees_is_told() {
    let (rig, told, _) = served().await;
    let status = |method: &str, path: &str, status| RefusedRequest::Status {
        method: method.to_owned(),
        path: path.to_owned(),
        status,
    };
    let refused = |http: &events::Http| match http {
        events::Http::Refused(why) => Some(why.clone()),
        _ => None,
    };
    let large = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(500_000));
    for (request, wanted) in [
        ("nonsense\r\n\r\n", None),
        (&large, None),
        (
            "POST /boot.ipxe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            Some(status("POST", "/boot.ipxe", 405)),
        ),
        (
            "GET /files/%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            Some(status("GET", "/files/%zz", 400)),
        ),
    ] {
        raw(rig.address, request.as_bytes()).await;
        let told = (told.wait_for(refused).await, std::mem::take(&mut *told.0.lock().unwrap()).len());
        match wanted {
            Some(wanted) => assert_eq!(told, (wanted, 1)),
            None => assert!(matches!(&told, (RefusedRequest::Unreadable(_), 1)), "{told:?}"),
        }
    }
    // Half a request's headers; connections without a request are no news.
    let half = raw(rig.address, b"GET / HTTP/1.1\r\nHo");
    let idle = raw(rig.address, b"");
    let kept = raw(rig.address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    tokio::join!(half, idle, kept);
    assert_eq!(told.wait_for(refused).await, RefusedRequest::TooSlow);
    assert_eq!(told.0.lock().unwrap().len(), 1);
}
