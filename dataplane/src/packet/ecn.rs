//! Explicit congestion notification across a tunnel (RFC 6040).

/// Not ECN-capable transport.
pub(crate) const NOT_ECT: u8 = 0b00;
/// ECN-capable transport, codepoint 1.
pub(crate) const ECT_1: u8 = 0b01;
/// ECN-capable transport, codepoint 0.
pub(crate) const ECT_0: u8 = 0b10;
/// Congestion experienced.
pub(crate) const CE: u8 = 0b11;

/// The inner field after decapsulation; `None` if the packet must be dropped (RFC 6040 §4.2).
///
/// ```text
/// inner \ outer  Not-ECT  ECT(0)   ECT(1)   CE
/// Not-ECT        Not-ECT  Not-ECT  Not-ECT  drop
/// ECT(0)         ECT(0)   ECT(0)   ECT(1)   CE
/// ECT(1)         ECT(1)   ECT(1)   ECT(1)   CE
/// CE             CE       CE       CE       CE
/// ```
#[inline(always)]
pub(crate) fn at_exit(inner: u8, outer: u8) -> Option<u8> {
    match (inner & 3, outer & 3) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (CE, _) | (_, CE) => Some(CE),
        (ECT_0, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

/// Whether a packet with these traffic classes may leave its tunnel: [`at_exit`] has a field for it.
#[inline(always)]
#[expect(
    clippy::needless_bitwise_bool,
    reason = "this is one of several conditions tested with one branch"
)]
pub(crate) fn passes(inner: u8, outer: u8) -> bool {
    (inner & 3 != NOT_ECT) | (outer & 3 != CE)
}

/// Whether the inner field of a packet that [`passes`] stays as it is: true of most that leave a tunnel, and
/// for all of them [`at_exit`] says the same.
#[inline(always)]
pub(crate) fn keeps(inner: u8, outer: u8) -> bool {
    outer & 1 == 0 || outer & 3 == inner & 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_table_is_rfc_6040s() {
        let outer = [NOT_ECT, ECT_0, ECT_1, CE];
        let table = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE); 4]),
        ];
        for (inner, row) in table {
            for (outer, result) in outer.into_iter().zip(row) {
                assert_eq!(at_exit(inner, outer), result, "{inner:02b} {outer:02b}");
                assert_eq!(passes(inner, outer), result.is_some());
                assert!(!keeps(inner, outer) || at_exit(inner, outer) == Some(inner));
            }
        }
    }
}
