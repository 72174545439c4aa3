use std::collections::HashMap;
use std::net::Ipv6Addr;

use flow::{Binding, Fid, FidPriority, MobileId, PathId, Role, Rule, RuleAction, Selector};
use proptest::prelude::*;

use super::*;
use crate::table::rules::Fields;

fn binding(path: u16, rules: usize) -> Binding {
    let rule = |n: usize| {
        let n = u16::try_from(n + 1).unwrap();
        Rule {
            fid: Fid::new(n).unwrap(),
            priority: FidPriority::new(n).unwrap(),
            selector: Selector {
                destination_port: Some(flow::Interval::single(n)),
                ..Selector::default()
            }
            .into(),
            action: RuleAction::Forward(PathId(n)),
        }
    };
    Binding {
        mobile: MobileId(1),
        default_path: Some(PathId(path)),
        sources: vec![PathId(path)],
        uplink: None,
        local: false,
        rules: (0..rules).map(rule).collect(),
    }
}

fn set(table: &mut Bindings, hnp: Hnp, binding: &Binding) -> Result<(), TableError> {
    table.set(&mut Packed::of(Role::Lma, hnp, binding)?)
}

fn hnp(number: u64, len: u8) -> Hnp {
    Hnp::new(Ipv6Addr::from_bits(u128::from(number) << 64), len).unwrap()
}

fn path_of(table: &mut Bindings, address: u128) -> Option<u16> {
    let slot = table.lookup(address)?;
    Some(table.downlink(slot)?.default_action())
}

#[derive(Clone, Debug)]
enum Op {
    Set(u64, u8, u16),
    Remove(u64, u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    // Mostly /64, over a key space small enough that places are taken, freed and taken again, in a
    // table small enough that buckets overflow.
    let length = prop_oneof![8 => Just(64u8), 1 => Just(56), 1 => Just(48), 1 => Just(128)];
    let op = (any::<bool>(), 0u64..90, length, 0u16..1000).prop_map(|(set, key, len, path)| {
        if set {
            Op::Set(key, len, path)
        } else {
            Op::Remove(key, len)
        }
    });
    proptest::collection::vec(op, 1..400)
}

proptest! {
    #[test]
    fn agrees_with_a_map(ops in ops()) {
        let mut table = Bindings::new(48, 0);
        let mut map: HashMap<Hnp, u16> = HashMap::new();
        for op in ops {
            match op {
                Op::Set(key, len, path) => {
                    let hnp = hnp(key, len);
                    let known = map.contains_key(&hnp);
                    match set(&mut table, hnp, &binding(path, usize::from(path % 7))) {
                        Ok(()) => { map.insert(hnp, path); }
                        Err(error) => {
                            prop_assert_eq!(error, TableError::Full(table.capacity));
                            prop_assert!(!known);
                        }
                    }
                }
                Op::Remove(key, len) => {
                    let hnp = hnp(key, len);
                    prop_assert_eq!(table.remove(hnp), map.remove(&hnp).is_some());
                }
            }
            prop_assert_eq!(table.len(), map.len());
        }
        for key in 0..100u64 {
            for low in [0u128, 5] {
                let address = u128::from(key) << 64 | low;
                let longest = map
                    .iter()
                    .filter(|(hnp, _)| hnp.contains(Ipv6Addr::from_bits(address)))
                    .max_by_key(|(hnp, _)| hnp.len());
                prop_assert_eq!(path_of(&mut table, address), longest.map(|(_, path)| *path));
            }
        }
        let in_use = table.extended.iter().filter(|set| !set.is_empty()).count();
        let long = map.values().filter(|path| *path % 7 > 4).count();
        prop_assert_eq!(in_use, long, "rule sets leak");
    }
}

#[test]
fn a_full_table_refuses_and_stays_whole() {
    let mut table = Bindings::new(100, 0);
    let mut held = 0;
    let refused = loop {
        match set(&mut table, hnp(held + 1, 64), &binding(1, 4)) {
            Ok(()) => held += 1,
            Err(error) => break error,
        }
    };
    assert!(held >= 100, "{held}");
    assert_eq!(refused, TableError::Full(table.capacity));
    assert!(
        set(&mut table, hnp(1, 64), &binding(2, 4)).is_ok(),
        "replacing needs no room"
    );
    for key in 1..=held {
        assert!(table.lookup(u128::from(key) << 64).is_some(), "{key}");
        assert!(table.remove(hnp(key, 64)), "{key}");
    }
    assert_eq!(table.len(), 0);
    assert!(table.buckets.iter().all(|b| b.0 == [FREE; WAYS]));
}

#[test]
fn counters_outlive_a_change_of_rules() {
    let mut table = Bindings::new(8, 0);
    let prefix = hnp(7, 64);
    set(&mut table, prefix, &binding(1, 2)).unwrap();
    let slot = table.lookup(7 << 64).unwrap();
    let udp = [0x60, 0, 0, 0, 0, 8, 17, 9];
    let mut frame = vec![0; 14 + 40 + 8];
    frame[14..22].copy_from_slice(&udp);
    frame[14 + 40 + 3] = 2;
    let (ip, _) =
        <crate::packet::header::Ipv6 as zerocopy::FromBytes>::ref_from_prefix(&frame[14..])
            .unwrap();
    let fields = Fields::of(ip, &frame);
    // Once around the low half of the counter.
    for _ in 0..70_000 {
        let record = &mut table.downlink[slot.index()];
        let (action, rule, carry) = record.select(fields, Scalar);
        assert_eq!((action, rule), (2, 1));
        if carry {
            table.uplink(slot).unwrap().carry(rule);
        }
    }
    let two = (Fid::new(2).unwrap(), 70_000);
    assert_eq!(table.counters(prefix).unwrap().rules[1], two);
    // To another path, then to other places in the record, and back.
    set(&mut table, prefix, &binding(3, 2)).unwrap();
    assert_eq!(table.counters(prefix).unwrap().rules[1], two);
    let mut swapped = binding(1, 3);
    swapped.rules.swap(1, 2);
    set(&mut table, prefix, &swapped).unwrap();
    let rules = table.counters(prefix).unwrap().rules;
    assert_eq!((rules[1].1, rules[2]), (0, two));
    set(&mut table, prefix, &binding(1, 2)).unwrap();
    assert_eq!(table.counters(prefix).unwrap().rules[1], two);
    // To a set that does not fit the record, and back.
    set(&mut table, prefix, &binding(1, 9)).unwrap();
    assert_eq!(table.counters(prefix).unwrap().rules[1], two);
    set(&mut table, prefix, &binding(1, 2)).unwrap();
    assert_eq!(table.counters(prefix).unwrap().rules[1], two);
    // Another mobile starts from nothing.
    let other = Binding {
        mobile: MobileId(2),
        ..binding(1, 2)
    };
    set(&mut table, prefix, &other).unwrap();
    assert_eq!(table.counters(prefix).unwrap().rules[1].1, 0);
}

#[test]
fn ill_formed_bindings_change_nothing() {
    let mut table = Bindings::new(8, 0);
    let prefix = hnp(7, 64);
    let mut wrong = binding(1, 65);
    assert_eq!(set(&mut table, prefix, &wrong), Err(TableError::Rules(65)));
    wrong.rules.clear();
    wrong.sources = vec![PathId(0); 5];
    assert_eq!(set(&mut table, prefix, &wrong), Err(TableError::Sources(5)));
    wrong.sources = vec![PathId(u16::MAX)];
    assert_eq!(
        set(&mut table, prefix, &wrong),
        Err(TableError::PathNumber(u16::MAX))
    );
    assert_eq!((table.len(), table.counters(prefix)), (0, None));
}
