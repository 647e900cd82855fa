//! The median of pairwise ratios with its 90 % interval.

/// One figure of both sides, pair by pair: ours, the reference's.
#[derive(Debug)]
pub(crate) struct Ratios(Vec<(f64, f64)>);

impl Ratios {
    pub(crate) fn new(pairs: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// One line: ratio, interval, both medians, number of pairs.
    pub(crate) fn summary(&self, unit: &str) -> String {
        let ratios = sorted(self.0.iter().map(|(ours, reference)| ours / reference));
        let rank = interval_rank(ratios.len());
        let (low, high) = (ratios[rank], ratios[ratios.len() - 1 - rank]);
        let ours = median(&sorted(self.0.iter().map(|pair| pair.0)));
        let reference = median(&sorted(self.0.iter().map(|pair| pair.1)));
        format!(
            "{:.3} [{low:.3}, {high:.3}] ({} over {} {unit}, {} pairs)",
            median(&ratios),
            rounded(ours),
            rounded(reference),
            ratios.len()
        )
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

pub(crate) fn median(sorted: &[f64]) -> f64 {
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    f64::midpoint(low, high)
}

/// How many values to leave out at each end so that what is left still holds the true median with a
/// probability of 90 %, whatever the distribution: each value is below it with probability 1/2.
fn interval_rank(count: usize) -> usize {
    let exponent = i32::try_from(count).unwrap_or(i32::MAX);
    let mut term = 0.5_f64.powi(exponent);
    let mut outside = 2.0 * term;
    let mut rank = 0;
    for step in 1..=count / 2 {
        term *= ratio_of(count - step + 1, step);
        outside += 2.0 * term;
        if outside > 0.1 {
            break;
        }
        rank = step;
    }
    rank
}

/// From one binomial coefficient to the next.
fn ratio_of(numerator: usize, denominator: usize) -> f64 {
    let float = |number: usize| u32::try_from(number).map_or(f64::MAX, f64::from);
    float(numerator) / float(denominator)
}

/// Three digits are what a median of ten is worth.
fn rounded(value: f64) -> String {
    if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_out_what_the_binomial_tables_say() {
        // Sign test tables, 90 % two-sided: 5 -> 0, 8 -> 1, 10 -> 1, 11 -> 2, 20 -> 5, 30 -> 10.
        let table = [(5, 0), (8, 1), (10, 1), (11, 2), (20, 5), (30, 10)];
        for (count, rank) in table {
            assert_eq!(interval_rank(count), rank, "{count} pairs");
        }
    }

    #[test]
    fn says_the_median_of_the_ratios_not_the_ratio_of_the_medians() {
        let ratios = Ratios::new([(1.0, 1.0), (200.0, 100.0), (3.0, 1.0), (8.0, 2.0), (5.0, 1.0)]);
        assert_eq!(ratios.summary("x"), "3.000 [1.000, 5.000] (5.00 over 1.00 x, 5 pairs)");
    }
}
