use super::*;

fn flight_with(millis: &[u64]) -> Flight {
    let flight = Flight::default();
    for (position, millis) in (2..).zip(millis) {
        flight.measure(position, millis * 1_000_000);
    }
    flight
}

#[test]
fn the_wait_follows_the_client() {
    let wait = |millis: &[u64]| Pace::new(true, 1).wait(&flight_with(millis));
    assert_eq!(wait(&[]), UNKNOWN);
    assert_eq!(wait(&[1, 1, 1]), SHORTEST);
    // Between 80 and 300 ms, in whatever order.
    for slow in [&[80][..], &[80, 300, 80], &[300, 80, 80, 80, 80, 80, 80], &[300], &[190; 20]] {
        let wait = wait(slow);
        assert!(
            wait > Duration::from_millis(300) && wait <= Duration::from_millis(1200),
            "{slow:?}: {wait:?}"
        );
    }
    // Quick again.
    let later: Vec<u64> = [300].into_iter().chain([2; 60]).collect();
    assert_eq!(wait(&later), SHORTEST);
}

#[test]
fn an_agreed_timeout_is_kept_to() {
    let flight = flight_with(&[1]);
    flight.timeout.set(7_000_000_000);
    let mut pace = Pace::new(true, 1);
    for _ in 0..3 {
        assert_eq!(pace.wait(&flight), Duration::from_secs(7));
        pace.back_off();
    }
    assert_eq!(Pace::patience(&flight), PATIENCE);
    flight.timeout.set(255_000_000_000);
    assert_eq!(Pace::patience(&flight), Duration::from_secs(765));
    // As tftp-hpa's utimeout has it: the wait grows from there.
    flight.timeout.set(10_000_000);
    let mut pace = Pace::new(true, 1);
    assert_eq!(pace.wait(&flight), Duration::from_millis(10));
    (0..40).for_each(|_| pace.back_off());
    assert_eq!(pace.wait(&flight), LONGEST);
}

#[test]
fn repeats_are_earned() {
    let mut pace = Pace::new(true, 1);
    assert_eq!([(); 4].map(|()| pace.spend()), [true, true, false, false]);
    pace.earn(1, false);
    assert_eq!([(); 2].map(|()| pace.spend()), [true, false]);
    pace.earn(1_000_000, true);
    assert_eq!((0..100).filter(|_| pace.spend()).count(), MOST_REPEATS as usize);
    assert!(!Pace::new(false, 1).spend());
}

#[test]
fn windows_are_earned() {
    let mut pace = Pace::new(true, 16);
    assert_eq!([(); 4].map(|()| pace.spend_window()), [true, true, false, false]);
    pace.earn(1, false);
    assert_eq!([(); 2].map(|()| pace.spend_window()), [true, false]);
    for mut pace in [pace, Pace::new(true, 1)] {
        pace.earn(1_000_000, true);
        assert_eq!((0..100).filter(|_| pace.spend_window()).count(), MOST_REPEATS as usize);
    }
    let mut single = Pace::adopted(&Flight::default());
    assert_eq!((0..100).filter(|_| single.spend_window()).count(), MOST_REPEATS as usize);
}
