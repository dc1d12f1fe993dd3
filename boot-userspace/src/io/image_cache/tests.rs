use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::files::BootFiles;

const CHUNKS: usize = 4;

fn cache() -> ImageCache {
    ImageCache::new(Mapping::own(CHUNKS).unwrap(), Mapping::own(1).unwrap())
}

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0]).collect()
}

fn open(dir: &Path, name: &str) -> OpenFile {
    BootFiles::new(dir.to_path_buf(), BTreeMap::new()).open(name).unwrap()
}

fn fetch(cache: &ImageCache, dir: &Path, name: &str) -> Image {
    cache.fetch(open(dir, name), Mode::Octet, 1432).unwrap()
}

fn whole(cache: &ImageCache, image: Image) -> Vec<u8> {
    let mut all = Vec::new();
    for offset in (0..image.size).step_by(1432) {
        let mut piece = vec![0; usize::try_from(image.size - offset).unwrap().min(1432)];
        cache.read(image.id, &mut piece, offset).unwrap();
        all.extend(piece);
    }
    all
}

#[test]
fn an_image_lies_where_the_kernel_half_looks_for_it() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), cache());
    let file = content(2 * CHUNK + 1000);
    fs::write(dir.path().join("first"), b"first").unwrap();
    fs::write(dir.path().join("f"), &file).unwrap();
    fetch(&cache, dir.path(), "first");
    let image = fetch(&cache, dir.path(), "f");
    let place = image.place.unwrap();
    assert_eq!(place, Place { chunk: 1, sums: 1 });
    for (nth, block) in file.chunks(1432).enumerate() {
        let at = nth * 1432;
        let mut read = vec![0; block.len()];
        // In one piece, also where two chunks meet.
        assert!(cache.images.read(place.chunk as usize + at / CHUNK, at % CHUNK, &mut read));
        assert!(read == block, "{nth}");
        let mut sum = [0; 2];
        assert!(cache.sums.read(0, (place.sums as usize + nth) * 2, &mut sum));
        assert_eq!(u16::from_ne_bytes(sum), Sum::ZERO.bytes(block).folded(), "{nth}");
    }
    assert!(whole(&cache, image) == file);
}

#[test]
fn sums_in_steps_of_eight_are_sums() {
    for length in [0, 1, 7, 8, 9, 16, 31, 1432, 1468] {
        for bytes in [content(length), vec![0xff; length], vec![0; length]] {
            let (quick, plain) = (folded(&bytes), Sum::ZERO.bytes(&bytes).folded());
            // 0 and 0xffff are the same number in ones' complement, but nothing is the sum of nothing only.
            assert_eq!(quick, plain, "{length}");
        }
    }
}

#[test]
fn a_changed_file_is_another_image_and_the_old_one_stays_for_who_has_it() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), cache());
    let path = dir.path().join("f");
    fs::write(&path, b"old").unwrap();
    let old = fetch(&cache, dir.path(), "f");
    assert_eq!(
        cache.known(&(open(dir.path(), "f").version(), Mode::Octet), 1432).map(|same| same.id),
        Some(old.id)
    );
    // In place: the worst way to do it.
    fs::write(&path, b"newer").unwrap();
    let content = (open(dir.path(), "f").version(), Mode::Octet);
    assert!(cache.known(&content, 1432).is_none());
    let new = fetch(&cache, dir.path(), "f");
    assert_eq!((whole(&cache, old), whole(&cache, new)), (b"old".to_vec(), b"newer".to_vec()));
    assert!(cache.known(&content, 512).is_none(), "sums of another block size");
}

#[test]
fn the_longest_unused_image_makes_room() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), cache());
    for (name, chunks) in [("a", 1), ("b", 2), ("c", 1), ("d", 2), ("e", CHUNKS + 1)] {
        fs::write(dir.path().join(name), content(chunks * CHUNK)).unwrap();
    }
    let [a, b, c] = ["a", "b", "c"].map(|name| fetch(&cache, dir.path(), name));
    let full = fetch(&cache, dir.path(), "d");
    assert_eq!((full.place, cache.read(full.id, &mut [0; 9], 5).is_ok()), (None, true), "from the disk");
    cache.close(full.id);
    cache.close(a.id);
    cache.close(b.id);
    let again = cache.lend(a.id, 1432).unwrap();
    cache.close(again.id);
    assert_eq!(fetch(&cache, dir.path(), "d").place.map(|place| place.chunk), Some(1), "instead of b");
    assert!(cache.lend(b.id, 1432).is_none() && cache.lend(a.id, 1432).is_some());
    assert!(whole(&cache, c) == content(CHUNK));
    assert_eq!(fetch(&cache, dir.path(), "e").place, None, "more than all of it");
}

#[test]
fn nothing_leaves_for_what_will_have_no_room_all_the_same() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), cache());
    for (name, chunks) in [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("large", 3), ("two", 2)] {
        fs::write(dir.path().join(name), content(chunks * CHUNK)).unwrap();
    }
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| fetch(&cache, dir.path(), name));
    for image in [a, c, d] {
        cache.close(image.id);
    }
    // b is in the middle of all room that there is.
    assert_eq!(fetch(&cache, dir.path(), "large").place, None);
    let stays = |image: Image| cache.lend(image.id, 1432).inspect(|image| cache.close(image.id)).is_some();
    assert!(stays(c) && stays(d) && stays(a));
    // The longest unused one is not in the way of this: it stays, too.
    let two = fetch(&cache, dir.path(), "two");
    assert_eq!(two.place.map(|place| place.chunk), Some(2));
    assert!(stays(a) && stays(b) && !stays(c) && !stays(d));
}

#[test]
fn sums_that_had_no_room_are_made_when_there_is_some() {
    let dir = tempfile::tempdir().unwrap();
    // Room for 4,096 sums.
    let cache = ImageCache::new(Mapping::own(CHUNKS).unwrap(), Mapping::own(1).unwrap());
    let room = SUMS;
    fs::write(dir.path().join("f"), content(CHUNK)).unwrap();
    fs::write(dir.path().join("other"), content(CHUNK)).unwrap();
    let smallest = u16::try_from(CHUNK / room * 2).unwrap();
    let fetch =
        |name: &str, block_size| cache.fetch(open(dir.path(), name), Mode::Octet, block_size).unwrap();
    let other = fetch("other", smallest);
    assert!(other.place.is_some());
    let refused = fetch("f", smallest);
    assert_eq!(refused.place, None, "no room beside the other's");
    let content = (open(dir.path(), "f").version(), Mode::Octet);
    let known = || cache.known(&content, smallest).inspect(|image| cache.close(image.id));
    assert!(known().is_some_and(|image| image.place.is_none()), "nothing has changed: not tried again");
    cache.close(other.id);
    assert!(known().is_none(), "the other may leave");
    let again = fetch("f", smallest);
    assert_eq!(again.id, refused.id);
    assert!(again.place.is_some() && known().is_some_and(|image| image.place.is_some()));
    // Nor beside those of the same image, unless nobody is sent blocks of that size any more.
    assert_eq!(fetch("f", smallest - 8).place, None);
    for _ in 0..3 {
        cache.close(again.id);
    }
    let other = fetch("f", smallest - 8);
    assert!(other.id == again.id && other.place.is_some());
    // No room would help against this.
    let longest = u16::try_from(LONGEST_BLOCK).unwrap();
    assert!(cache.known(&content, longest + 1).is_some_and(|image| image.place.is_none()));
}

#[test]
fn a_file_that_is_slow_to_read_holds_up_nobody_but_those_who_want_it() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), cache());
    for name in ["slow", "quick"] {
        fs::write(dir.path().join(name), content(CHUNK)).unwrap();
    }
    let slow = open(dir.path(), "slow");
    let reading = cache.alone_with((slow.version(), Mode::Octet));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| cache.fetch(slow, Mode::Octet, 1432).unwrap());
        assert!(fetch(&cache, dir.path(), "quick").place.is_some());
        assert!(!waits.is_finished());
        drop(reading);
        assert!(waits.join().unwrap().place.is_some());
    });
}

#[test]
fn a_file_from_the_disk_that_is_written_to_is_not_sent_on() {
    let dir = tempfile::tempdir().unwrap();
    let cache = ImageCache::new(Mapping::own(0).unwrap(), Mapping::own(0).unwrap());
    let path = dir.path().join("f");
    fs::write(&path, content(5000)).unwrap();
    let image = fetch(&cache, dir.path(), "f");
    assert!(whole(&cache, image) == content(5000));
    fs::rename(&path, dir.path().join("g")).unwrap();
    fs::write(&path, b"new").unwrap();
    fs::write(dir.path().join("g"), content(6000)).unwrap();
    assert!(cache.read(image.id, &mut [0; 100], 0).is_err());
}

#[test]
fn a_file_from_the_disk_that_loses_its_name_is_sent_on_and_one_written_to_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let cache = ImageCache::new(Mapping::own(0).unwrap(), Mapping::own(0).unwrap());
    let [path, next] = ["f", "next"].map(|name| dir.path().join(name));
    let fetch_new = |content: Vec<u8>| {
        fs::write(&path, content).unwrap();
        fetch(&cache, dir.path(), "f")
    };

    let old = fetch_new(content(5000));
    let another = content(5001)[1..].to_vec();
    // The file system's clock moves in steps: only another time of the inode puts the question.
    until("the clock moves", || {
        fs::write(&next, &another).unwrap();
        changed(&next) != changed(&path)
    });
    fs::rename(&next, &path).unwrap();
    assert!(whole(&cache, old) == content(5000), "another took its name");
    let new = fetch(&cache, dir.path(), "f");
    assert!(whole(&cache, new) == another);
    fs::remove_file(&path).unwrap();
    assert!(whole(&cache, new) == another && whole(&cache, old) == content(5000), "removed");

    let moved = fetch_new(content(5000));
    let moved_at = changed(&path);
    let elsewhere = dir.path().join("elsewhere");
    until("the clock moves", || {
        // A file's name and mode are no part of its content.
        fs::rename(&path, &elsewhere).unwrap();
        let is_later = changed(&elsewhere) != moved_at;
        fs::rename(&elsewhere, &path).unwrap();
        is_later
    });
    fs::rename(&path, &elsewhere).unwrap();
    assert!(whole(&cache, moved) == content(5000), "moved");
    fs::rename(&elsewhere, &path).unwrap();

    let closed_off = fetch_new(content(5000));
    let before = changed(&path);
    until("the clock moves", || {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        changed(&path) != before
    });
    assert!(whole(&cache, closed_off) == content(5000), "another mode");

    let written = fetch_new(content(5000));
    let (before, modified) = (changed(&path), fs::metadata(&path).unwrap().modified().unwrap());
    until("the clock moves", || {
        fs::write(&path, &another).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        changed(&path) != before
    });
    assert!(
        cache.read(written.id, &mut [0; 100], 0).is_err(),
        "written to in place, of the same size and time"
    );

    let written = fetch_new(content(4000));
    let mut end = fs::File::options().append(true).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(whole(&cache, written) == content(4000));
    end.write_all(b"more").unwrap();
    assert!(cache.read(written.id, &mut [0; 100], 0).is_err(), "written to without a name");
}

fn changed(path: &Path) -> (i64, i64) {
    let facts = fs::metadata(path).unwrap();
    (facts.ctime(), facts.ctime_nsec())
}

fn until(what: &str, mut happens: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !happens() {
        assert!(Instant::now() < end, "waited in vain: {what}");
    }
}

#[test]
fn texts_are_converted_and_large_ones_refused() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), cache());
    fs::write(dir.path().join("f"), "a\nb\r").unwrap();
    let text = cache.fetch(open(dir.path(), "f"), Mode::Netascii, 1432).unwrap();
    assert_eq!((whole(&cache, text), text.place.is_some()), (b"a\r\nb\r\0".to_vec(), true));
    assert_eq!(whole(&cache, fetch(&cache, dir.path(), "f")), b"a\nb\r");
    fs::File::create(dir.path().join("large")).unwrap().set_len(LARGEST_TEXT + 1).unwrap();
    assert!(cache.fetch(open(dir.path(), "large"), Mode::Netascii, 1432).is_err());
}

#[test]
fn what_an_earlier_daemon_left_is_kept_until_its_transfers_end() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), cache());
    let place = Place { chunk: 0, sums: 7 };
    let [one, two] = [(); 2].map(|()| cache.adopt(place, CHUNK as u64 * 2, 1432).unwrap());
    assert_eq!((one.id, one.place), (two.id, Some(place)));
    assert!(cache.adopt(Place { chunk: 1, sums: 3000 }, 5, 512).is_none(), "overlaps");
    fs::write(dir.path().join("f"), content(3 * CHUNK)).unwrap();
    assert_eq!(fetch(&cache, dir.path(), "f").place, None);
    cache.close(one.id);
    cache.close(two.id);
    assert!(cache.lend(one.id, 1432).is_none());
    fs::write(dir.path().join("g"), content(3 * CHUNK)).unwrap();
    assert!(fetch(&cache, dir.path(), "g").place.is_some());
}
