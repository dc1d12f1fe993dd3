use super::*;
use crate::host::mapping::Mapping;
use boot_engine::tftp::Mode;

fn peer(port: u16) -> Peer {
    Peer { client: std::net::SocketAddrV4::new([10, 0, 0, 2].into(), port), local: [10, 0, 0, 1].into() }
}

fn block(nth: u16) -> Block {
    Block { offset: u64::from(nth - 1) * 10, len: 10, number: nth }
}

#[test]
fn a_client_gets_its_blocks_in_order_each_once_and_a_bounded_number_of_them() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let images = Arc::new(ImageCache::new(Mapping::own(1).unwrap(), Mapping::own(1).unwrap()));
        let image = images.lend_text("0123456789".repeat(1000), Mode::Octet);
        let mut reads = DiskReads::new(Arc::clone(&images));
        let reader = (peer(1000), image.id);
        reads.want(reader, block(1));
        reads.begin();
        // What is on its way is not read again; what follows it waits, as much as there may be of it.
        for nth in 1..=MOST_BLOCKS as u16 + 3 {
            reads.want(reader, block(nth));
            reads.want(reader, block(nth));
        }
        assert_eq!(reads.dropped(), 4);
        let done = reads.next().await.unwrap();
        assert_eq!(done.packets, [b"\0\x03\0\x010123456789"]);
        assert!(done.failure.is_none() && reads.has(reader));
        reads.begin();
        let numbers: Vec<u8> = reads.next().await.unwrap().packets.iter().map(|packet| packet[3]).collect();
        assert_eq!(numbers, (2..=MOST_BLOCKS as u8 + 1).collect::<Vec<_>>());
        assert!(!reads.has(reader));
        // An image that is gone.
        images.close(image.id);
        reads.want(reader, block(5));
        reads.begin();
        assert!(reads.next().await.unwrap().failure.is_some());
    });
}

#[test]
fn only_so_many_clients_wait() {
    let images = Arc::new(ImageCache::new(Mapping::own(1).unwrap(), Mapping::own(1).unwrap()));
    let mut reads = DiskReads::new(images);
    for port in 1..=MOST_WAITING as u16 + 2 {
        reads.want((peer(port), 1), block(1));
    }
    assert_eq!((reads.dropped(), reads.wanted.len(), reads.turns.len()), (2, MOST_WAITING, MOST_WAITING));
}
