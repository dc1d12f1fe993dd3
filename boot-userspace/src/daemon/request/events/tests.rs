use std::cell::Cell;
use std::time::Duration;

use super::*;
use boot_engine::events::Step;

thread_local! {
    static LOGGED: Cell<usize> = const { Cell::new(0) };
}

fn event(second: usize) -> BootEvent {
    BootEvent::new(Duration::from_secs(second as u64), Step::RouterAdvertised)
}

#[tokio::test]
async fn every_event_is_counted_logged_where_there_is_room_and_read_by_whoever_keeps_up() {
    let stream = EventStream::new(|_| LOGGED.set(LOGGED.get() + 1));
    let count = |stream: &EventStream| {
        let all = stream.counts().by_kind();
        all.into_iter().find(|(kind, _)| *kind == Kind::Ra).map(|(_, count)| count)
    };
    stream.emit(event(0));
    assert!(!stream.is_read(), "nobody reads yet");
    let (mut quick, mut late) = (stream.read(), stream.read());
    assert!(stream.is_read());
    stream.pass(event(1), false);
    assert_eq!((count(&stream), LOGGED.get()), (Some(2), 1));
    assert_eq!(quick.next().await.unwrap().at.as_secs(), 1);
    for second in 2..WAITING + 4 {
        stream.emit(event(second));
        assert_eq!(quick.next().await.unwrap().at.as_secs(), second as u64);
    }
    assert_eq!(stream.counts().missed(), 0);
    // The oldest ones have left, and it is known how many.
    assert_eq!(late.next().await.unwrap().at.as_secs(), 4);
    assert_eq!((stream.counts().missed(), stream.counts().lost()), (3, 0));
    drop((quick, late));
    assert!(!stream.is_read());
    drop(stream);
}

#[tokio::test]
async fn a_reader_ends_with_the_daemon() {
    let stream = EventStream::new(|_| ());
    let mut reader = stream.read();
    stream.emit(event(7));
    drop(stream);
    assert_eq!(reader.next().await.unwrap().at.as_secs(), 7);
    assert!(reader.next().await.is_none());
}
