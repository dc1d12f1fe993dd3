//! Who may be switched when: a storm of power-ons is what trips breakers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// At most so many at a time, of a rack and in all; between two that are switched on in a rack there is a time.
#[derive(Debug)]
pub(super) struct Turns {
    all: Arc<Semaphore>,
    per_rack: usize,
    interval: Duration,
    racks: Mutex<HashMap<String, Arc<Rack>>>,
}

#[derive(Debug)]
struct Rack {
    permits: Arc<Semaphore>,
    /// When the next machine may be switched on. Who waits for that holds it.
    next: Turn<Option<Instant>>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    _rack: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Turns {
    pub(super) fn new(at_once: usize, per_rack: usize, interval: Duration) -> Self {
        Self { all: Arc::new(Semaphore::new(at_once)), per_rack, interval, racks: Mutex::default() }
    }

    /// Waits for the turn of a machine in a rack. Machines without one are in a rack of their own kind.
    pub(super) async fn take(&self, rack: &str, switches_on: bool) -> Option<Taken> {
        let rack = self.rack(rack);
        let of_rack = Arc::clone(&rack.permits).acquire_owned().await.ok()?;
        if switches_on {
            let mut next = rack.next.lock().await;
            if let Some(next) = *next {
                sleep_until(next).await;
            }
            *next = Some(Instant::now() + self.interval);
        }
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Taken { _rack: of_rack, _all: of_all })
    }

    fn rack(&self, name: &str) -> Arc<Rack> {
        let mut racks = self.racks.lock().unwrap_or_else(PoisonError::into_inner);
        // Labels change: racks in which nobody waits, and whose time is over, are forgotten.
        if racks.len() > 1024 {
            racks.retain(|_, rack| Arc::strong_count(rack) > 1);
        }
        let new = || Rack { permits: Arc::new(Semaphore::new(self.per_rack)), next: Turn::default() };
        Arc::clone(racks.entry(name.to_owned()).or_insert_with(|| Arc::new(new())))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn at_most_so_many_of_a_rack_and_of_all_and_one_after_the_other() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let interval = Duration::from_millis(40);
            let turns = Arc::new(Turns::new(3, 2, interval));
            let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let racks: Arc<Mutex<HashMap<usize, (usize, usize)>>> = Arc::default();
            let begun: Arc<Mutex<Vec<(usize, Instant)>>> = Arc::default();
            let tasks: Vec<_> = (0..12)
                .map(|machine| {
                    let (turns, now, most) = (Arc::clone(&turns), Arc::clone(&now), Arc::clone(&most));
                    let (racks, begun) = (Arc::clone(&racks), Arc::clone(&begun));
                    tokio::spawn(async move {
                        let rack = machine % 2;
                        let taken = turns.take(&rack.to_string(), true).await;
                        begun.lock().unwrap().push((rack, Instant::now()));
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        {
                            let mut racks = racks.lock().unwrap();
                            let of_rack = racks.entry(rack).or_default();
                            of_rack.0 += 1;
                            of_rack.1 = of_rack.1.max(of_rack.0);
                        }
                        // So long a BMC takes.
                        tokio::time::sleep(interval * 3).await;
                        racks.lock().unwrap().entry(rack).or_default().0 -= 1;
                        now.fetch_sub(1, Ordering::SeqCst);
                        drop(taken);
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(most.load(Ordering::SeqCst), 3, "of all");
            assert!(racks.lock().unwrap().values().all(|(_, most)| *most == 2), "of a rack");
            for rack in 0..2 {
                let times: Vec<Instant> =
                    begun.lock().unwrap().iter().filter(|(of, _)| *of == rack).map(|(_, at)| *at).collect();
                assert_eq!(times.len(), 6);
            }
        });
    }

    #[test]
    fn machines_of_a_rack_are_switched_on_with_a_time_between() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let turns = Turns::new(8, 8, Duration::from_millis(50));
            let start = Instant::now();
            for _ in 0..3 {
                turns.take("7", true).await;
            }
            assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
            let turns = Turns::new(8, 8, Duration::from_secs(3600));
            turns.take("7", true).await;
            let others = async { (turns.take("7", false).await, turns.take("8", true).await) };
            let others = tokio::time::timeout(Duration::from_secs(30), others).await;
            assert!(others.is_ok(), "who is switched off, or elsewhere, waits for nobody");
        });
    }
}
