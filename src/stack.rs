//! Things in the order they came, any of which can be taken out: guards, deferred functions, wakers.

/// Push and pop take constant time, a look-up takes the logarithm. `remove` moves what is above: two words for each.
#[derive(Debug)]
pub(crate) struct Stack<T> {
    /// By key, which only grows.
    items: Vec<(usize, Box<T>)>,
    next: usize,
}

impl<T> Default for Stack<T> {
    fn default() -> Stack<T> {
        Stack { items: Vec::new(), next: 1 }
    }
}

impl<T> Stack<T> {
    /// Adds one on top and returns its key: larger than every one before, and never 0.
    pub(crate) fn push(&mut self, item: T) -> usize {
        let key = self.next;
        self.next += 1;
        self.items.push((key, Box::new(item)));
        key
    }

    /// Takes one out, if it is there.
    pub(crate) fn remove(&mut self, key: usize) -> Option<T> {
        self.place(key).map(|at| *self.items.remove(at).1)
    }

    /// Takes out the one on top.
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.items.pop().map(|(_, item)| *item)
    }

    #[inline(never)]
    pub(crate) fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        self.place(key).map(|at| &mut *self.items[at].1)
    }

    #[inline(never)]
    pub(crate) fn get(&self, key: usize) -> Option<&T> {
        self.place(key).map(|at| &*self.items[at].1)
    }

    /// From the oldest to the newest.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (usize, &T)> {
        self.items.iter().map(|(key, item)| (*key, &**item))
    }

    /// Those that are older than the one with this key, from the newest to the oldest.
    pub(crate) fn older_than(&self, key: usize) -> impl Iterator<Item = (usize, &T)> {
        let end = self.items.partition_point(|(other, _)| *other < key);
        self.items[..end].iter().rev().map(|(key, item)| (*key, &**item))
    }

    /// From the oldest to the newest.
    pub(crate) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (usize, &mut T)> {
        self.items.iter_mut().map(|(key, item)| (*key, &mut **item))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The key that the next one gets.
    pub(crate) fn next_key(&self) -> usize {
        self.next
    }

    fn place(&self, key: usize) -> Option<usize> {
        self.items.binary_search_by_key(&key, |(key, _)| *key).ok()
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
            let rest: Vec<_> = std::iter::from_fn(|| stack.pop()).collect();
            assert_eq!(rest.first(), Some(&5));
            assert!(stack.is_empty());
            assert_eq!(stack.push(6), 7);
        }
    }
}
