//! The beginning of a connection over TLS, and why there is none.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use openssl::ssl::{Error, Ssl, SslRef};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_openssl::SslStream;

use super::certificate::Tls;
use super::hello::{self, offered};
use crate::http::connections::Connection;
use boot_engine::events::NoTls;

/// In this time a client has to have agreed on everything and to have begun its request.
const WITHIN: Duration = Duration::from_secs(20);

/// Agrees with a client on how to encrypt. Without an error the client has left, which is no news.
pub(super) async fn shake_hands(
    tls: &Tls,
    mut connection: Connection,
) -> Result<SslStream<Connection>, Option<NoTls>> {
    let begun = timeout(WITHIN, async {
        if is_http(&connection).await? {
            answer_http(&mut connection).await;
            return Err(Some(NoTls::Http));
        }
        connection.is_encrypted();
        let certificate = tls.shown();
        let stream = Ssl::new(certificate.context()).and_then(|ssl| SslStream::new(ssl, connection));
        let mut stream = stream.map_err(|error| Some(NoTls::Other(error.to_string())))?;
        if let Err(error) = Pin::new(&mut stream).accept().await {
            // Who has not said hello only looks whether the port is open.
            let left = || hello::has_come(stream.ssl()).then_some(NoTls::Left);
            return Err(why(&error, stream.ssl()).or_else(left));
        }
        // In TLS 1.3 a client looks at the certificate only now.
        match Pin::new(&mut stream).peek(&mut [0]).await {
            Ok(_) => Ok(stream),
            Err(error) => Err(why(&error, stream.ssl())),
        }
    });
    begun.await.unwrap_or(Err(Some(NoTls::Late)))
}

/// Whether what comes is a request without TLS: those begin with a method, and a handshake with 22.
async fn is_http(connection: &Connection) -> Result<bool, Option<NoTls>> {
    let mut first = [0];
    match connection.peek(&mut first).await {
        Ok(0) | Err(_) => Err(None),
        Ok(_) => Ok(first[0].is_ascii_uppercase()),
    }
}

async fn answer_http(connection: &mut Connection) {
    let text = "this port speaks HTTPS: write https:// instead of http://\n";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    // Unread bytes would make the end a reset, which takes the answer away.
    let mut request = vec![0; 16 * 1024];
    drop(connection.read(&mut request).await);
    drop(connection.write_all(answer.as_bytes()).await);
    drop(connection.shutdown().await);
}

/// What OpenSSL calls it (sslerr.h); alerts are 1000 and their number of RFC 8446 section 6.
mod reason {
    pub(super) const NO_SHARED_CIPHER: i32 = 193;
    pub(super) const UNSUPPORTED_PROTOCOL: i32 = 258;
    pub(super) const VERSION_TOO_LOW: i32 = 396;
    pub(super) const ALERT: i32 = 1000;
    /// bad_certificate to certificate_unknown
    pub(super) const ALERTS_OF_CERTIFICATES: std::ops::RangeInclusive<i32> = 1042..=1046;
    pub(super) const ALERT_UNKNOWN_CA: i32 = 1048;
}

/// None: the client has left.
fn why(error: &Error, ssl: &SslRef) -> Option<NoTls> {
    let Some(stack) = error.ssl_error() else {
        let kind = error.io_error().map(io::Error::kind);
        return (kind == Some(io::ErrorKind::TimedOut)).then_some(NoTls::Late);
    };
    let first = stack.errors().first()?;
    Some(match first.reason_code() {
        reason::NO_SHARED_CIPHER => NoTls::NoCipher { offered: offered(ssl) },
        reason::UNSUPPORTED_PROTOCOL | reason::VERSION_TOO_LOW => NoTls::OldVersion,
        code if reason::ALERTS_OF_CERTIFICATES.contains(&code) || code == reason::ALERT_UNKNOWN_CA => {
            NoTls::Distrusted(first.reason().unwrap_or_default().to_owned())
        }
        // An end without a farewell.
        code if code < reason::ALERT && first.reason() == Some("unexpected eof while reading") => {
            return None;
        }
        _ => NoTls::Other(first.reason().map_or_else(|| first.to_string(), str::to_owned)),
    })
}
