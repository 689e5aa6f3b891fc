//! [`SignalSet`].

use std::fmt;
use std::iter::FusedIterator;

use super::Signal;

/// Each signal once: bit n − 1 stands for signal n.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SignalSet(u128);

#[cfg(unix)]
const _: () = assert!(super::COUNT - 1 <= u128::BITS as usize);

impl SignalSet {
    pub(crate) const fn of(signals: &[Signal]) -> SignalSet {
        let mut bits = 0;
        let mut next = 0;
        while next < signals.len() {
            bits |= bit(signals[next]);
            next += 1;
        }
        SignalSet(bits)
    }

    pub(crate) const fn contains(self, signal: Signal) -> bool {
        self.0 & bit(signal) != 0
    }

    /// Whether it is new in the set.
    pub(crate) fn insert(&mut self, signal: Signal) -> bool {
        let is_new = !self.contains(signal);
        self.0 |= bit(signal);
        is_new
    }

    pub(crate) const fn union(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 | other.0)
    }

    pub(crate) const fn intersection(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 & other.0)
    }

    pub(crate) const fn minus(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 & !other.0)
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In the order of the numbers.
    pub(crate) fn iter(self) -> Signals {
        Signals(self.0)
    }
}

const fn bit(signal: Signal) -> u128 {
    1 << (signal.0 - 1)
}

/// The signals of a set, in the order of the numbers.
pub(crate) struct Signals(u128);

impl Iterator for Signals {
    type Item = Signal;

    fn next(&mut self) -> Option<Signal> {
        if self.0 == 0 {
            return None;
        }
        let lowest = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        // At most 127: the cast loses nothing.
        Some(Signal(lowest as i32 + 1))
    }
}

impl FusedIterator for Signals {}

impl IntoIterator for SignalSet {
    type Item = Signal;
    type IntoIter = Signals;

    fn into_iter(self) -> Signals {
        self.iter()
    }
}

impl FromIterator<Signal> for SignalSet {
    fn from_iter<I: IntoIterator<Item = Signal>>(signals: I) -> SignalSet {
        let mut set = SignalSet::default();
        for signal in signals {
            set.insert(signal);
        }
        set
    }
}

impl fmt::Debug for SignalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_keeps_each_signal_once_in_the_order_of_numbers() {
        let mut set: SignalSet = [Signal::TERM, Signal::INT, Signal::TERM].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [Signal::INT, Signal::TERM]);
        assert!(!set.insert(Signal::INT));
        assert_eq!(set, SignalSet::of(&[Signal::TERM, Signal::INT]));
        assert!(!set.is_empty() && SignalSet::default().is_empty());
    }

    #[test]
    fn sets_are_joined_and_taken_apart() {
        let (int, term) = (SignalSet::of(&[Signal::INT]), SignalSet::of(&[Signal::TERM]));
        let both = int.union(term);
        assert_eq!((both.minus(int), both.intersection(term)), (term, term));
        assert!(both.contains(Signal::INT) && !term.contains(Signal::INT));
    }

    #[test]
    fn the_highest_signal_fits() {
        let all: SignalSet = (1..=128).filter_map(Signal::from_raw).collect();
        assert_eq!(all.iter().count(), (1..=128).filter_map(Signal::from_raw).count());
    }
}
