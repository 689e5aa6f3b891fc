//! Things in the order they came, any of which can be taken out: guards, deferred functions, wakers.

/// Push, remove and pop take constant time, amortised; a look-up takes the logarithm.
///
/// What is removed leaves a gap. Gaps at the end go at once, the others when they are more than half of
/// all.
#[derive(Debug)]
pub(crate) struct Stack<T> {
    /// By key, which only grows.
    places: Vec<(usize, Option<T>)>,
    next: usize,
    gaps: usize,
}

impl<T> Default for Stack<T> {
    fn default() -> Stack<T> {
        Stack { places: Vec::new(), next: 1, gaps: 0 }
    }
}

impl<T> Stack<T> {
    /// Adds one on top and returns its key: larger than every one before, and never 0.
    pub(crate) fn push(&mut self, item: T) -> usize {
        let key = self.next;
        self.next += 1;
        self.places.push((key, Some(item)));
        key
    }

    /// Takes one out, if it is there.
    pub(crate) fn remove(&mut self, key: usize) -> Option<T> {
        let item = self.place(key).and_then(|at| self.places[at].1.take())?;
        self.gaps += 1;
        while self.places.last().is_some_and(|(_, item)| item.is_none()) {
            self.places.pop();
            self.gaps -= 1;
        }
        if self.gaps * 2 > self.places.len() {
            self.places.retain(|(_, item)| item.is_some());
            self.gaps = 0;
        }
        Some(item)
    }

    /// Takes out the one on top.
    pub(crate) fn pop(&mut self) -> Option<T> {
        // The last place is never a gap.
        let key = self.places.last()?.0;
        self.remove(key)
    }

    pub(crate) fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        self.place(key).and_then(|at| self.places[at].1.as_mut())
    }

    pub(crate) fn get(&self, key: usize) -> Option<&T> {
        self.place(key).and_then(|at| self.places[at].1.as_ref())
    }

    /// From the oldest to the newest.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (usize, &T)> {
        self.places.iter().filter_map(|(key, item)| Some((*key, item.as_ref()?)))
    }

    /// Those that are older than the one with this key, from the newest to the oldest.
    pub(crate) fn older_than(&self, key: usize) -> impl Iterator<Item = (usize, &T)> {
        let end = self.places.partition_point(|(other, _)| *other < key);
        self.places[..end].iter().rev().filter_map(|(key, item)| Some((*key, item.as_ref()?)))
    }

    /// From the oldest to the newest.
    pub(crate) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (usize, &mut T)> {
        self.places.iter_mut().filter_map(|(key, item)| Some((*key, item.as_mut()?)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The key that the next one gets.
    pub(crate) fn next_key(&self) -> usize {
        self.next
    }

    /// Takes all of them out, from the oldest to the newest. No later one gets a key of theirs.
    #[cfg(any(unix, test))]
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.gaps = 0;
        std::mem::take(&mut self.places).into_iter().filter_map(|(_, item)| item)
    }

    fn place(&self, key: usize) -> Option<usize> {
        self.places.binary_search_by_key(&key, |(key, _)| *key).ok()
    }
}

#[cfg(all(test, not(handle_exit_loom)))]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_taken_out_the_rest_stays_in_order() {
        // Every order of removal of five, by the digits of a number in base five.
        for mut order in 0..5usize.pow(5) {
            let mut stack = Stack::default();
            let keys: Vec<_> = (0..5).map(|item| stack.push(item)).collect();
            let mut left: Vec<_> = (0..5).collect();
            for _ in 0..5 {
                let chosen = order % 5;
                order /= 5;
                let was_there = left.iter().position(|item| *item == chosen);
                assert_eq!(stack.remove(keys[chosen]), was_there.map(|at| left.remove(at)));
                assert_eq!(stack.get(keys[chosen]), None);
                assert_eq!(stack.iter().map(|(_, item)| *item).collect::<Vec<_>>(), left);
                assert_eq!(stack.is_empty(), left.is_empty());
            }
            assert_eq!(stack.pop(), left.pop());
            assert_eq!(stack.push(5), 6);
            assert_eq!(stack.take_all().last(), Some(5));
            assert!(stack.is_empty());
            assert_eq!(stack.push(6), 7);
        }
    }

    #[test]
    fn gaps_do_not_pile_up() {
        let mut stack = Stack::default();
        stack.push(0);
        for item in 0..1000 {
            let key = stack.push(item);
            stack.push(item);
            assert_eq!(stack.remove(key), Some(item));
            stack.pop();
        }
        assert!(stack.places.len() < 3);
    }
}
