//! Two members of a pair and a real etcd.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]

mod common;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::Etcd;
use crossbeam::channel::Receiver;
use store::{Change, Clocks, Member, Membership, News, Place, Space, Store, Term, Tls};

const PATIENCE: Duration = Duration::from_secs(20);

fn membership(place: &Place, name: &str, address: Option<SocketAddr>) -> Membership {
    Membership {
        place: place.clone(),
        name: name.to_owned(),
        address,
        lease: Duration::from_secs(2),
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Hears news until one is what is waited for.
fn until<T>(news: &Receiver<News>, mut wanted: impl FnMut(News) -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        let heard = news.recv_deadline(end).expect("nothing more is heard");
        if let Some(found) = wanted(heard) {
            return found;
        }
    }
}

fn lead(news: &Receiver<News>) -> Term {
    until(news, |heard| match heard {
        News::Lead(term) => Some(term),
        News::Everything(..) | News::Changed(..) => None,
        News::Over => panic!("over"),
    })
}

fn leading(place: &Place, term: Term) -> Store {
    let store = Store::stand_by(place.clone()).unwrap();
    store.lead(term);
    store
}

fn clocks(seconds: u64) -> Clocks {
    Clocks {
        monotonic: Duration::from_secs(seconds),
        wall: Duration::from_secs(1_000_000 + seconds),
    }
}

fn put(store: &mut Store, key: &[u8], value: Option<&[u8]>) {
    let value = value.map(<[u8]>::to_vec);
    store.put(Space::Lma, key.to_vec(), value, true);
    store.submit(clocks(7));
}

fn wait_kept(store: &Store) {
    let end = Instant::now() + PATIENCE;
    while store.waiting() > 0 {
        assert!(Instant::now() < end, "not kept");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn change(key: &[u8], value: Option<&[u8]>) -> Change {
    Change {
        space: Space::Lma,
        key: key.to_vec(),
        value: value.map(<[u8]>::to_vec),
    }
}

#[test]
fn one_leads_and_the_other_hears_all_before_it_does() {
    // As it comes, and as it is best.
    for etcd in [Etcd::start(), Etcd::large()].into_iter().flatten() {
        one_leads_and_the_other_hears_all(&etcd);
    }
}

fn one_leads_and_the_other_hears_all(etcd: &Etcd) {
    let place = etcd.place("/flowmob/one");
    let (first, news) = Member::join(membership(&place, "a", None)).unwrap();
    let term = lead(&news);
    assert_eq!(term.number, 1);
    let mut store = Store::stand_by(place.clone()).unwrap();
    let early = (Space::Lma, b"early".to_vec(), Some(b"0".to_vec()));
    assert!(
        !store.put_now(early, clocks(6), Duration::from_millis(100)),
        "it does not lead"
    );
    store.lead(term);
    put(&mut store, b"early", Some(b"1"));
    wait_kept(&store);

    let (second, other) = Member::join(membership(&place, "b", None)).unwrap();
    let (records, read) = until(&other, |heard| match heard {
        News::Everything(records, clocks) => Some((records, clocks)),
        heard => panic!("{heard:?}"),
    });
    assert_eq!(records, [change(b"early", Some(b"1"))]);
    assert_eq!(read, Some(clocks(7)));

    // More than one transaction takes.
    for n in 0..1000_u32 {
        store.put(
            Space::Lma,
            n.to_be_bytes().to_vec(),
            Some(vec![9; 300]),
            true,
        );
    }
    put(&mut store, b"early", None);
    wait_kept(&store);
    assert!(store.close());
    drop(first);
    let mut heard = Vec::new();
    let next = until(&other, |news| match news {
        News::Changed(changes, _) => {
            heard.extend(changes);
            None
        }
        News::Lead(term) => Some(term),
        news => panic!("{news:?}"),
    });
    assert_eq!(next.number, 2);
    assert_eq!(heard.len(), 1001);
    assert!(heard.contains(&change(b"early", None)));
    drop(second);
}

#[test]
fn who_leads_no_more_can_write_nothing() {
    let Some(etcd) = Etcd::start() else { return };
    let place = etcd.place("/flowmob/fence");
    let (_first, news) = Member::join(membership(&place, "a", None)).unwrap();
    let term = lead(&news);
    let mut store = leading(&place, term);
    put(&mut store, b"key", Some(b"mine"));
    wait_kept(&store);
    // As another one would in its place.
    etcd.put("/flowmob/fence/lead/term", "2");
    until(&news, |heard| matches!(heard, News::Over).then_some(()));
    put(&mut store, b"key", Some(b"late"));
    let end = Instant::now() + PATIENCE;
    while !store.progress().is_over.load(Ordering::Relaxed) {
        assert!(Instant::now() < end, "nobody has told the writer");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(store.waiting(), 1);
    assert!(!store.close());
    let (_second, other) = Member::join(membership(&place, "b", None)).unwrap();
    let records = until(&other, |heard| match heard {
        News::Everything(records, _) => Some(records),
        heard => panic!("{heard:?}"),
    });
    assert_eq!(records, [change(b"key", Some(b"mine"))]);
}

/// Both show who they are, and who cannot is told nothing.
#[test]
fn etcd_and_who_asks_it_show_certificates() {
    let Some(etcd) = Etcd::protected() else {
        return;
    };
    let place = etcd.place("/flowmob/tls");
    let (_member, news) = Member::join(membership(&place, "a", None)).unwrap();
    let mut store = leading(&place, lead(&news));
    put(&mut store, b"key", Some(b"1"));
    wait_kept(&store);
    assert_eq!(etcd.get("/flowmob/tls/lead/term"), "1");

    let [ca, stranger, key] = ["ca.pem", "stranger.pem", "stranger.key"].map(|name| etcd.pem(name));
    let without_any = Tls::new(&ca, None).unwrap();
    let with_anothers = Tls::new(&ca, Some((&stranger, &key))).unwrap();
    let of_another_authority = Tls::new(&stranger, None).unwrap();
    let refused = [
        None,
        Some(without_any),
        Some(with_anothers),
        Some(of_another_authority),
    ]
    .map(|tls| {
        let place = Place {
            tls,
            ..place.clone()
        };
        Member::join(membership(&place, "b", None)).unwrap()
    });
    std::thread::sleep(Duration::from_secs(2));
    for (member, news) in refused {
        assert!(news.try_recv().is_err());
        assert!(!member.standing().is_reached.load(Ordering::Relaxed));
    }
}

#[test]
fn what_is_no_certificate_is_refused_before_it_is_used() {
    let Some(etcd) = Etcd::protected() else {
        return;
    };
    let [ca, own, key, other] =
        ["ca.pem", "lma.pem", "lma.key", "etcd.key"].map(|name| etcd.pem(name));
    let wrong = |authorities: &str, own| Tls::new(authorities, own).unwrap_err().to_string();
    assert!(wrong("", None).contains("no certificate"));
    for (certificate, key, why) in [
        (&own, &other, "KeyMismatch"),
        (&own, &own, "private key"),
        (&key, &key, "no certificates"),
    ] {
        let error = wrong(&ca, Some((certificate, key)));
        assert!(error.contains(why) && !error.contains("BEGIN"), "{error}");
    }
    let broken = own.replace("MI", "..");
    wrong(&broken, None);
    assert!(Tls::new(&ca, Some((&own, &key))).is_ok());
}

#[test]
fn what_etcd_could_not_take_is_written_when_it_is_back() {
    let Some(mut etcd) = Etcd::start() else {
        return;
    };
    let place = etcd.place("/flowmob/away");
    let address = Some(free_address());
    let (member, news) = Member::join(membership(&place, "a", address)).unwrap();
    let mut store = leading(&place, lead(&news));
    put(&mut store, b"key", Some(b"1"));
    wait_kept(&store);
    etcd.kill();
    put(&mut store, b"key", Some(b"2"));
    let end = Instant::now() + PATIENCE;
    while store.progress().failures.load(Ordering::Relaxed) < 2 {
        assert!(Instant::now() < end, "a dead etcd takes records");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(store.waiting(), 1);
    etcd.restart();
    wait_kept(&store);
    // Nobody else was there: it leads on, in its term.
    let end = Instant::now() + PATIENCE;
    while !member.standing().is_reached.load(Ordering::Relaxed) {
        assert!(Instant::now() < end, "not back");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(news.try_recv().is_err());
    assert_eq!(etcd.get("/flowmob/away/lead/term"), "1");
}

/// A leader that is a connection and two keys, which no lease takes away.
struct Hollow {
    connection: std::net::TcpStream,
}

impl Hollow {
    /// The next one to connect is told that it leads.
    fn lead(etcd: &Etcd, prefix: &str) -> impl FnOnce() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        etcd.put(&format!("{prefix}/lead/term"), "1");
        etcd.put(
            &format!("{prefix}/lead/by"),
            &format!("1 {address} hollow/1"),
        );
        move || {
            let (mut connection, _) = listener.accept().unwrap();
            connection.write_all(&1_u64.to_be_bytes()).unwrap();
            Self { connection }
        }
    }

    fn end(self) {
        drop(self.connection);
    }
}

#[test]
fn a_process_that_ends_is_followed_without_its_lease_running_out() {
    let Some(etcd) = Etcd::start() else { return };
    let leads = Hollow::lead(&etcd, "/flowmob/link");
    let place = etcd.place("/flowmob/link");
    let (_member, news) = Member::join(membership(&place, "a", None)).unwrap();
    leads().end();
    assert_eq!(lead(&news).number, 2);
}

/// What is noticed while etcd does not answer is not forgotten.
#[test]
fn a_process_that_ends_while_etcd_is_away_is_followed_when_it_is_back() {
    let Some(etcd) = Etcd::start() else { return };
    let leads = Hollow::lead(&etcd, "/flowmob/both");
    let wire = common::Wire::to(etcd.address());
    let through = Place {
        endpoints: vec![wire.address().to_string()],
        ..etcd.place("/flowmob/both")
    };
    let (member, news) = Member::join(membership(&through, "a", None)).unwrap();
    let leads = leads();
    // It is noticed at once, before anybody knows that etcd does not answer.
    wire.cut();
    leads.end();
    let end = Instant::now() + PATIENCE;
    while member.standing().is_reached.load(Ordering::Relaxed) {
        assert!(Instant::now() < end, "a cut wire is a way");
        std::thread::sleep(Duration::from_millis(5));
    }
    wire.mend();
    assert_eq!(lead(&news).number, 2);
}

/// Cut off, its lease runs out, and another one leads; it hears so when etcd is there again.
#[test]
fn whose_lease_runs_out_is_followed_by_another() {
    let Some(etcd) = Etcd::start() else { return };
    let place = etcd.place("/flowmob/lease");
    let wire = common::Wire::to(etcd.address());
    let through = Place {
        endpoints: vec![wire.address().to_string()],
        ..place.clone()
    };
    let (_first, news) = Member::join(membership(&through, "a", None)).unwrap();
    let mut store = leading(&through, lead(&news));
    put(&mut store, b"key", Some(b"1"));
    wait_kept(&store);
    let (_second, other) = Member::join(membership(&place, "b", None)).unwrap();
    wire.cut();
    put(&mut store, b"key", Some(b"never"));
    assert_eq!(lead(&other).number, 2);
    assert_eq!(store.waiting(), 1, "acknowledged by nobody");
    wire.mend();
    until(&news, |heard| matches!(heard, News::Over).then_some(()));
    let end = Instant::now() + PATIENCE;
    while !store.progress().is_over.load(Ordering::Relaxed) {
        assert!(Instant::now() < end, "nobody has told the writer");
        std::thread::sleep(Duration::from_millis(5));
    }
}
