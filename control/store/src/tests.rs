use super::*;

fn clocks(seconds: u64) -> Clocks {
    Clocks {
        monotonic: Duration::from_secs(seconds),
        wall: Duration::from_secs(1_700_000_000 + seconds),
    }
}

/// Every key has a value of its own, more or less.
fn value(n: u32) -> Vec<u8> {
    vec![n.to_be_bytes()[3]; 300]
}

fn key(n: u32) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

/// Waits for what was submitted to be on disk.
fn wait(store: &Store) {
    let end = Instant::now() + Duration::from_secs(20);
    while store.waiting() > 0 {
        assert!(Instant::now() < end, "nothing is written");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A part's records, away from their files.
fn taken(contents: &mut Contents, space: Space) -> Vec<(Vec<u8>, Vec<u8>)> {
    let records = contents.take(space);
    records
        .iter()
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect()
}

fn fill(store: &mut Store, records: u32) {
    for n in 0..records {
        store.put(Space::Lma, key(n), Some(value(n)), true);
        if n % 1000 == 999 {
            store.submit(clocks(n.into()));
            wait(store);
        }
    }
    store.submit(clocks(records.into()));
    wait(store);
}

#[test]
fn what_was_kept_is_there_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/store");
    {
        let (mut store, contents) = Store::open(&path).unwrap();
        assert_eq!(contents.clocks, None);
        assert!(contents.records.values().all(Records::is_empty));
        store.put(Space::Lma, key(1), Some(b"one".to_vec()), true);
        store.put(Space::Mag, key(1), Some(b"mag".to_vec()), true);
        store.submit(clocks(1));
        store.put(Space::Lma, key(2), Some(b"two".to_vec()), true);
        store.put(Space::Lma, key(1), None, true);
        store.submit(clocks(2));
        assert!(store.close());
    }
    let (_store, mut contents) = Store::open(&path).unwrap();
    assert_eq!(contents.damage, [""; 0]);
    assert_eq!(contents.clocks, Some(clocks(2)));
    assert_eq!(
        taken(&mut contents, Space::Lma),
        [(key(2), b"two".to_vec())]
    );
    assert_eq!(
        taken(&mut contents, Space::Mag),
        [(key(1), b"mag".to_vec())]
    );
}

#[test]
fn a_mark_is_reached_when_its_changes_are_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(&directory.path().join("store")).unwrap();
    let before = store.mark();
    assert!(store.has_kept(before));
    store.put(Space::Lma, key(1), Some(vec![1]), false);
    store.submit(clocks(1));
    assert_eq!(store.mark(), before, "nobody waits for what is not urgent");
    store.put(Space::Lma, key(2), Some(vec![2]), true);
    store.submit(clocks(1));
    let mark = store.mark();
    assert!(mark > before);
    wait(&store);
    assert!(store.has_kept(mark));
    store.put(Space::Lma, key(3), Some(vec![3]), false);
    store.submit(clocks(1));
    wait(&store);
}

#[test]
fn two_processes_cannot_have_one_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let (_store, _) = Store::open(&path).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)), "{error}");
}

/// All files of a directory, the largest first.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.push((entry.metadata().unwrap().len(), path));
            }
        }
    }
    found.sort();
    found.reverse();
    found.into_iter().map(|(_, path)| path).collect()
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, target).unwrap();
    }
}

/// As a process leaves it that is killed, after so many records.
fn killed(directory: &Path, records: u32) -> PathBuf {
    let path = directory.join("alive");
    let (mut store, _) = Store::open(&path).unwrap();
    fill(&mut store, records);
    let dead = directory.join("dead");
    copy(&path, &dead);
    dead
}

#[test]
fn a_torn_end_costs_only_what_was_torn() {
    let directory = tempfile::tempdir().unwrap();
    let dead = killed(directory.path(), 5000);
    let journal = files(&dead)
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == "records"))
        .unwrap();
    let octets = std::fs::read(&journal).unwrap();
    let end = octets.len();
    for cut in [1, 17, 4000, 200_000] {
        let torn = directory.path().join(format!("torn-{cut}"));
        copy(&dead, &torn);
        let name = torn.join(journal.strip_prefix(&dead).unwrap());
        std::fs::write(name, &octets[..end - cut]).unwrap();
        let (_store, mut contents) = Store::open(&torn).unwrap();
        assert_eq!(contents.damage, [""; 0], "cut by {cut}");
        let records = contents.take(Space::Lma);
        assert!(records.len() >= 3000, "{} after {cut}", records.len());
        assert!(
            records.len().is_multiple_of(1000),
            "groups are there or not"
        );
        for (key, found) in records.iter() {
            let n = u32::from_be_bytes(key.try_into().unwrap());
            assert_eq!(found, value(n));
        }
    }
}

/// Whatever is written over any file: the store opens, has no record that was never there, and says that something
/// is missing if it is.
#[test]
fn damage_is_told_and_what_is_good_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("alive");
    {
        let (mut store, _) = Store::open(&path).unwrap();
        fill(&mut store, 20_000);
        assert!(store.close());
    }
    let all = files(&path);
    let (mut told, mut kept) = (0, 0);
    for (n, file) in all.iter().enumerate() {
        for place in 0..7 {
            let damaged = directory.path().join(format!("damaged-{n}-{place}"));
            copy(&path, &damaged);
            let target = damaged.join(file.strip_prefix(&path).unwrap());
            let mut octets = std::fs::read(&target).unwrap();
            if octets.is_empty() {
                continue;
            }
            let at = (octets.len() - 1) * place / 6;
            let end = (at + 8).min(octets.len());
            octets[at..end].fill(0xa5);
            std::fs::write(&target, octets).unwrap();
            let (store, mut contents) = Store::open(&damaged).unwrap();
            let records = contents.take(Space::Lma);
            for (key, found) in records.iter() {
                let n = u32::from_be_bytes(key.try_into().unwrap());
                assert_eq!(found, value(n), "{target:?} at {at}");
            }
            let whole = records.len() == 20_000;
            assert!(
                records.len() >= 19_000,
                "{target:?} at {at}: {}",
                records.len()
            );
            assert!(
                whole || !contents.damage.is_empty() || contents.torn > 0,
                "{target:?} at {at}"
            );
            told += usize::from(!contents.damage.is_empty());
            kept += usize::from(!contents.damage.is_empty() && !whole);
            assert_eq!(contents.put_aside.is_some(), !contents.damage.is_empty());
            drop(store);
            // What was good is in the files from now on.
            let (_, mut again) = Store::open(&damaged).unwrap();
            assert_eq!(again.damage, [""; 0]);
            assert_eq!(again.take(Space::Lma).len(), records.len());
        }
    }
    assert!(told > 0 && kept > 0, "{told} {kept}");
}

/// Changes of few keys in small files, so that these are emptied and removed all the time, with a restart now and then:
/// what is read is what was written last, and the files never take much more than what counts.
#[test]
fn old_files_go_and_nothing_with_them() {
    const SMALL: u64 = 20_000;
    proptest::proptest!(proptest::prelude::ProptestConfig::with_cases(24), |(
        groups in proptest::collection::vec(
            (proptest::collection::vec((0..60_u32, 0..4_u8, 0..900_usize), 1..40), 0..12_u8),
            1..120,
        ),
    )| {
        let directory = tempfile::tempdir().unwrap();
        let (mut files, _) = files::open(directory.path(), SMALL).unwrap();
        let mut oracle = BTreeMap::new();
        for (n, (group, restart)) in (0_u64..).zip(groups) {
            let mut changes = writer::Changes::new();
            for (k, kind, length) in group {
                let value = (kind > 0).then(|| vec![n.to_be_bytes()[7]; length]);
                changes.insert((Space::Lma, key(k)), value);
            }
            for ((_, key), value) in &changes {
                note(&mut oracle, key, value.as_deref());
            }
            files.write(&changes, clocks(n)).unwrap();
            if restart == 0 {
                drop(files);
                let (again, mut contents) = files::open(directory.path(), SMALL).unwrap();
                assert_eq!(contents.damage, [""; 0]);
                assert_eq!(contents.clocks, Some(clocks(n)));
                let records: BTreeMap<_, _> = taken(&mut contents, Space::Lma).into_iter().collect();
                assert_eq!(records, oracle);
                files = again;
            }
            let octets: u64 = tests::files(directory.path())
                .iter()
                .map(|file| file.metadata().unwrap().len())
                .sum();
            let live: usize = oracle.values().map(|value| value.len() + 20).sum();
            assert!(octets < 2 * live as u64 + 8 * SMALL, "{octets} for {live}");
        }
    });
}

/// Has an oracle know of a change.
fn note(oracle: &mut BTreeMap<Vec<u8>, Vec<u8>>, key: &[u8], value: Option<&[u8]>) {
    match value {
        Some(value) => oracle.insert(key.to_vec(), value.to_vec()),
        None => oracle.remove(key),
    };
}

/// Keys short and long, some of them the beginning of others, or with zeros at their end, in files that are as small as a
/// group: what was written last is read, in the order of the keys, by one thread or several, and written on.
#[test]
fn keys_of_all_lengths_are_told_apart() {
    let key = || proptest::collection::vec(0..2_u8, 0..20);
    proptest::proptest!(proptest::prelude::ProptestConfig::with_cases(48), |(
        groups in proptest::collection::vec(
            (proptest::collection::vec((key(), 0..3_u8, 0..2_u8), 1..60), 0..6_u8),
            1..40,
        ),
    )| {
        let directory = tempfile::tempdir().unwrap();
        let (mut files, _) = files::open(directory.path(), 1).unwrap();
        let mut oracles: BTreeMap<Space, BTreeMap<Vec<u8>, Vec<u8>>> = BTreeMap::new();
        for (n, (group, restart)) in (0_u64..).zip(groups) {
            let mut changes = writer::Changes::new();
            for (key, kind, space) in group {
                let value = (kind > 0).then(|| n.to_be_bytes().to_vec());
                let space = [Space::Lma, Space::Process][usize::from(space)];
                changes.insert((space, key), value);
            }
            for ((space, key), value) in &changes {
                note(oracles.entry(*space).or_default(), key, value.as_deref());
            }
            files.write(&changes, clocks(n)).unwrap();
            if restart == 0 {
                drop(files);
                let (again, mut contents) = files::open(directory.path(), 1).unwrap();
                assert!(contents.take(Space::Mag).is_empty());
                for (space, oracle) in &oracles {
                    let expected: Vec<_> = oracle.clone().into_iter().collect();
                    let records = contents.take(*space);
                    assert_eq!(records.len(), expected.len());
                    let own = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
                    let found: Vec<_> = records.iter().map(|(key, value)| own(key, value)).collect();
                    assert_eq!(found, expected);
                    let ahead = records.read_ahead(|key, value| (key.to_vec(), value.to_vec()));
                    assert_eq!(ahead.unwrap().collect::<Vec<_>>(), expected);
                }
                files = again;
            }
        }
    });
}

/// More records than are read in one go, by more threads than one.
#[test]
fn what_is_read_ahead_stays_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let (mut store, _) = Store::open(&path).unwrap();
    fill(&mut store, 5000);
    assert!(store.close());
    let (_store, mut contents) = Store::open(&path).unwrap();
    let read = |key: &[u8], _: &[u8]| u32::from_be_bytes(key.try_into().unwrap());
    let records = contents.take(Space::Lma).read_ahead(read).unwrap();
    assert!(records.eq(0..5000));
    // Who does not want all of them need not take them.
    let (_store, mut contents) = Store::open(&directory.path().join("other")).unwrap();
    let mut none = contents.take(Space::Lma).read_ahead(read).unwrap();
    assert_eq!(none.next(), None);
}

/// A disk that refuses: everything waits in memory, and is written when it takes it again.
#[test]
fn what_a_disk_refuses_is_written_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let (mut store, _) = Store::open(&path).unwrap();
    fill(&mut store, 10);
    // The writer's next file would have this name; until then it refuses because it is no file.
    let progress = Arc::clone(store.progress());
    let away = directory.path().join("away");
    std::fs::rename(&path, &away).unwrap();
    std::fs::write(&path, "no directory").unwrap();
    let mut n = 10;
    while progress.failures.load(Ordering::Relaxed) == 0 {
        // Files end at their size: the next one cannot be begun.
        store.put(Space::Lma, key(n % 64), Some(vec![7; 1 << 20]), true);
        store.submit(clocks(n.into()));
        wait_or_fail(&store);
        n += 1;
        assert!(n < 200, "no new file was begun");
    }
    let mark = store.mark();
    assert!(progress.is_failing.load(Ordering::Relaxed));
    assert!(!store.has_kept(mark));
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&away, &path).unwrap();
    wait(&store);
    assert!(store.has_kept(mark));
    assert!(!progress.is_failing.load(Ordering::Relaxed));
    drop(store);
    let (_store, mut contents) = Store::open(&path).unwrap();
    assert_eq!(contents.damage, [""; 0]);
    assert!(contents.take(Space::Lma).len() >= 64);
}

fn wait_or_fail(store: &Store) {
    while store.waiting() > 0 && store.progress().failures.load(Ordering::Relaxed) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What is taken up is in memory once for each key; what is not is counted.
#[test]
fn changes_are_queued_until_they_are_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(&directory.path().join("store")).unwrap();
    assert_eq!(store.queued(), 0);
    store.put(Space::Lma, key(1), Some(value(1)), true);
    assert_eq!(store.queued(), 0, "it is not submitted");
    store.submit(clocks(1));
    wait(&store);
    assert_eq!(store.queued(), 0);
    // Nobody takes them up.
    let (to, batches) = unbounded();
    let writing = store.to.replace(to);
    for n in 0..10 {
        store.put(Space::Lma, key(1), Some(value(n)), true);
        store.put(Space::Lma, key(n), None, false);
        store.submit(clocks(2));
    }
    assert_eq!(store.queued(), 20);
    for batch in batches.try_iter() {
        writing.as_ref().unwrap().send(batch).unwrap();
    }
    store.to = writing;
    wait(&store);
    assert_eq!(store.queued(), 0);
}
