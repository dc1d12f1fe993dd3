use std::net::TcpListener;

use super::*;

/// Answers one request.
fn server(answer: &'static str) -> (Origin, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; 4096];
        let got = stream.read(&mut request).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request[..got].to_vec()).unwrap()
    });
    (Origin { host, tls: None }, served)
}

#[test]
fn an_answer_is_read_as_far_as_it_says() {
    let (host, served) = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX: y\r\n\r\nokmore");
    let answer = request(&host, "/a", Some(("text/plain", b"body"))).unwrap();
    assert_eq!(answer.text().unwrap(), "ok");
    let asked = served.join().unwrap();
    assert!(asked.starts_with("POST /a HTTP/1.1\r\nHost: ") && asked.ends_with("\r\n\r\nbody"), "{asked}");
}

#[test]
fn what_ends_early_or_says_no_is_an_error() {
    for (answer, says) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", "ended after 2 of 9"),
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 3\r\n\r\nno\n", "403: no"),
        ("HTTP/1.1 200 OK\r\n\r\nok", "does not say how long"),
        ("SSH-2.0\r\n\r\n", "is no answer"),
        ("", "no end of its head"),
    ] {
        let (host, served) = server(answer);
        let error = request(&host, "/", None).and_then(Answer::text).unwrap_err();
        assert!(format!("{error:#}").contains(says), "{error:#}");
        served.join().unwrap();
    }
}
