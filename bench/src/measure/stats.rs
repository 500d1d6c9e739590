//! What several pairs of runs say together.

use serde::Serialize;

/// The middle of some numbers, and how far they spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// None of no numbers.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut numbers: Vec<f64> = numbers
            .into_iter()
            .filter(|number| number.is_finite())
            .collect();
        numbers.sort_by(f64::total_cmp);
        let middle = numbers.len() / 2;
        let upper = *numbers.get(middle)?;
        let median = if numbers.len() % 2 == 1 {
            upper
        } else {
            (numbers[middle - 1] + upper) / 2.0
        };
        Some(Spread {
            median,
            min: *numbers.first()?,
            max: *numbers.last()?,
        })
    }

    /// Of the quotients of each pair. Neighbours in time are compared, so that what slows down the machine for a
    /// while slows down both.
    pub fn of_ratios(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<Spread> {
        Spread::of(pairs.into_iter().map(|(above, below)| above / below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        let spread = Spread::of([5.0, 1.0, 3.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 3.0, 5.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_ratio_is_of_neighbours_and_not_of_medians() {
        // The machine was twice as fast in the second pair; the systems compare as before.
        let spread = Spread::of_ratios([(10.0, 5.0), (20.0, 10.0)]).unwrap();
        assert_eq!((spread.min, spread.max), (2.0, 2.0));
    }

    #[test]
    fn what_cannot_be_divided_does_not_count() {
        assert_eq!(
            Spread::of_ratios([(1.0, 0.0), (4.0, 2.0)]).unwrap().median,
            2.0
        );
    }
}
