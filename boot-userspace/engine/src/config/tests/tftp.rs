//! How boot files are sent, and what the kernel half keeps of them.

use super::*;

#[test]
fn memory_of_the_fast_path() {
    let memory = |written: &str| format!("fast_path_memory = {written}\n{BASE}");
    for (written, bytes) in
        [("0", 0), ("\"0\"", 0), ("67108864", 64 << 20), ("0x400_0000", 64 << 20), ("\"8M\"", 8 << 20)]
    {
        assert_eq!(good(&memory(written)).fast_path_memory, bytes, "{written}");
    }
    for (written, why) in [
        ("\"64MB\"", "\"64MB\" is not an amount of memory; write a number and K, M or G, such as \"64M\""),
        ("64M", "texts are written in quotes: write \"64M\" instead of 64M"),
        ("64", "\"64\" is 64 bytes, which no boot file fits into; write a unit"),
        ("\"5G\"", "\"5G\" is too much; write at most \"4G\""),
        ("4294967297", "write at most \"4G\""),
        ("99999999999999999999", "write at most \"4G\""),
        ("-1", "is not an amount of memory"),
        ("6__4", "texts are written in quotes: write \"6__4\" instead"),
        ("1.5", "has to be a text in quotes, not a number with a fraction; write fast_path_memory = \"64M\""),
        ("true", "has to be a text in quotes, not true or false"),
    ] {
        bad(&memory(written), &[(1, "fast_path_memory", why)]);
    }
    bad(
        &format!("fast_path_memroy = \"5G\"\n{BASE}fast_path_memory = \"1M\"\n"),
        &[
            (1, "fast_path_memroy", "did you mean fast_path_memory?"),
            (1, "fast_path_memroy", "write at most \"4G\""),
            (11, "profile[0].fast_path_memory", "belongs at the top of the file"),
        ],
    );
}

#[test]
fn windows_and_ports() {
    assert_eq!(good(&format!("{BASE}[tftp]\nwindowsize = 64\n")).tftp.windowsize, 64);
    for (written, why) in [
        ("0", "has to be a whole number from 1 to 64, without quotes; write windowsize = 16"),
        ("65", "from 1 to 64"),
        ("-1", "from 1 to 64"),
        ("\"16\"", "from 1 to 64, without quotes"),
        ("16x", "from 1 to 64"),
    ] {
        bad_after_base(&format!("[tftp]\nwindowsize = {written}\n"), &[(2, "tftp.windowsize", why)]);
    }
    bad_after_base(
        "[tfpt]\nwindow_size = 0\nsingle_port = \"no\"\nblksize = 512\n",
        &[
            (1, "tfpt", "did you mean tftp?"),
            (2, "tfpt.window_size", "did you mean windowsize?"),
            (2, "tfpt.window_size", "from 1 to 64"),
            (3, "tfpt.single_port", "has to be true or false, without quotes; write single_port = true"),
            (4, "tfpt.blksize", "there is no such key; write windowsize, single_port or clients"),
        ],
    );
}

#[test]
fn clients_are_those_of_the_networks_that_are_named() {
    let clients = |written: &str| good(&format!("{BASE}[tftp]\nclients = {written}\n")).tftp.clients;
    let net = |text: &str| text.parse().unwrap();
    assert_eq!(clients("\"served\""), TftpClients::Served(Vec::new()));
    assert_eq!(clients("\"any\""), TftpClients::Any);
    assert_eq!(clients("\"10.2.0.0/16\""), TftpClients::Served(vec![net("10.2.0.0/16")]));
    let two = TftpClients::Served(vec![net("10.2.0.0/16"), net("192.0.2.0/24")]);
    assert_eq!(clients("[\"10.2.0.0/16\", \"192.0.2.0/24\"]"), two);
    for (written, why) in [
        ("\"all\"", "\"all\" is neither \"served\" nor \"any\" nor a network"),
        ("[\"any\", \"10.2.0.0/16\"]", "\"any\" stands alone; write clients = \"any\""),
        ("[\"10.2.0.1/16\"]", "10.2.0.1/16 has host bits set; write \"10.2.0.0/16\""),
        ("\"10.2.0.7\"", "\"10.2.0.7\" is neither"),
        ("[]", "the list is empty; write clients = [\"10.2.0.0/16\"]"),
        ("true", "has to be a text in quotes"),
    ] {
        let key = if written.starts_with("[\"") { "tftp.clients[0]" } else { "tftp.clients" };
        bad_after_base(&format!("[tftp]\nclients = {written}\n"), &[(2, key, why)]);
    }
}
