//! Rounds of samples, and what is read off them.

/// Fewer samples, for a first look.
pub(crate) fn is_quick() -> bool {
    std::env::var_os("HANDLE_EXIT_BENCH").is_some_and(|value| value == "quick")
}

/// So many rounds, or a tenth of that in quick mode.
pub(crate) fn rounds(full: usize) -> usize {
    if is_quick() { (full / 10).max(PARTS) } else { full }
}

/// A run is cut into so many parts, to see how far their results lie apart.
const PARTS: usize = 5;

/// What one contestant took, in nanoseconds, round by round.
pub(crate) struct Samples {
    rounds: Vec<Vec<f64>>,
}

/// Gives each contestant its turn in each round, in an order of the round's own: who comes before
/// leaves caches and clocks behind.
pub(crate) fn round_robin<const N: usize>(
    contestants: [&str; N],
    rounds: usize,
    mut sample: impl FnMut(&str) -> Vec<f64>,
) -> [Samples; N] {
    let mut taken = contestants.map(|_| Samples { rounds: Vec::with_capacity(rounds) });
    let mut order = std::array::from_fn::<usize, N, _>(|index| index);
    for _ in 0..rounds {
        fastrand::shuffle(&mut order);
        for index in order {
            taken[index].rounds.push(sample(contestants[index]));
        }
    }
    taken
}

impl Samples {
    pub(crate) fn median(&self) -> f64 {
        median(&self.rounds)
    }

    /// The least and the greatest ratio that a part of the run alone would have given.
    pub(crate) fn spread_to(&self, other: &Samples) -> (f64, f64) {
        let length = self.rounds.len().div_ceil(PARTS);
        let parts = self.rounds.chunks(length).zip(other.rounds.chunks(length));
        let ratios = parts.map(|(ours, theirs)| median(ours) / median(theirs));
        ratios
            .fold((f64::INFINITY, 0.0), |(least, most), ratio| (least.min(ratio), most.max(ratio)))
    }
}

fn median(rounds: &[Vec<f64>]) -> f64 {
    let mut all: Vec<f64> = rounds.iter().flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
