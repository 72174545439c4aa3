//! Lists that are kept once for every mobile and hold one element mostly.

/// Inserts without room for more: a `Vec` that grows by itself begins with room for four.
pub(crate) fn insert<T>(list: &mut Vec<T>, at: usize, element: T) {
    list.reserve_exact(1);
    list.insert(at, element);
}

/// Removes an element and its room.
pub(crate) fn remove<T>(list: &mut Vec<T>, at: usize) -> T {
    let element = list.remove(at);
    list.shrink_to_fit();
    element
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_what_is_there() {
        let mut list = Vec::new();
        insert(&mut list, 0, 2);
        assert_eq!(list.capacity(), 1);
        insert(&mut list, 0, 1);
        insert(&mut list, 2, 3);
        assert_eq!(list, [1, 2, 3]);
        assert_eq!(remove(&mut list, 1), 2);
        assert_eq!((list.as_slice(), list.capacity()), ([1, 3].as_slice(), 2));
    }
}
