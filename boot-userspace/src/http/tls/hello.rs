//! What a client offers to begin with.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use openssl::ex_data::Index;
use openssl::ssl::{Ssl, SslRef};

/// The cipher suites of the client's hello, as they came.
static HELLO: LazyLock<Option<Index<Ssl, Vec<u8>>>> = LazyLock::new(|| Ssl::new_ex_index().ok());

/// Keeps what a client offers, for the case that nothing comes of it.
pub(super) fn keep_hello(ssl: &mut SslRef) {
    if let (Some(index), Some(suites)) = (*HELLO, ssl.client_hello_ciphers().map(<[u8]>::to_vec)) {
        ssl.set_ex_data(index, suites);
    }
}

/// Whether a client has said hello.
pub(super) fn has_come(ssl: &SslRef) -> bool {
    HELLO.is_some_and(|index| ssl.ex_data(index).is_some())
}

/// How a client would exchange keys: `TLS_RSA`, `TLS_DHE_RSA` and so on.
pub(super) fn offered(ssl: &SslRef) -> String {
    let suites = HELLO
        .and_then(|index| ssl.ex_data(index))
        .and_then(|bytes| ssl.bytes_to_cipher_list(bytes, false).ok());
    let kinds: BTreeSet<String> = suites
        .iter()
        .flat_map(|lists| &lists.suites)
        .filter_map(|cipher| {
            let name = cipher.standard_name()?;
            Some(name.split_once("_WITH_").map_or(name, |(exchange, _)| exchange).to_owned())
        })
        .collect();
    kinds.into_iter().collect::<Vec<_>>().join(", ")
}
