//! [`SignalSet`].

use std::fmt;

use super::Signal;

#[cfg(not(any(target_arch = "mips", target_arch = "mips64")))]
type Bits = u64;
/// On MIPS, Linux has 128 signals.
#[cfg(any(target_arch = "mips", target_arch = "mips64"))]
type Bits = u128;

/// Each signal once: bit n − 1 stands for signal n.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SignalSet(Bits);

#[cfg(unix)]
const _: () = assert!(super::COUNT - 1 <= Bits::BITS as usize);

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

    /// Adds the signal. Whether it is new in the set.
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
}

const fn bit(signal: Signal) -> Bits {
    1 << (signal.0 - 1)
}

/// The signals of a set, from the highest number to the lowest: TERM comes before INT.
pub(crate) struct Signals(Bits);

impl Iterator for Signals {
    type Item = Signal;

    fn next(&mut self) -> Option<Signal> {
        if self.0 == 0 {
            return None;
        }
        let highest = Bits::BITS - 1 - self.0.leading_zeros();
        self.0 &= !(1 << highest);
        // At most 127: the cast loses nothing.
        Some(Signal(highest as i32 + 1))
    }
}

impl IntoIterator for SignalSet {
    type Item = Signal;
    type IntoIter = Signals;

    fn into_iter(self) -> Signals {
        Signals(self.0)
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
        f.debug_list().entries(*self).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_keeps_each_signal_once_the_highest_first() {
        let mut set: SignalSet = [Signal::TERM, Signal::INT, Signal::TERM].into_iter().collect();
        assert_eq!(set.into_iter().collect::<Vec<_>>(), [Signal::TERM, Signal::INT]);
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
        assert_eq!(all.into_iter().count(), (1..=128).filter_map(Signal::from_raw).count());
    }
}
