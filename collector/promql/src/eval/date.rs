//! Parts of dates, in UTC, from seconds since 1970; the proleptic Gregorian calendar.

const DAY_MS: i64 = 86_400_000;

/// Year, month (from 1) and day (from 1) of a day counted from 1970-01-01.
///
/// Howard Hinnant's `civil_from_days`: eras of 400 years, years that begin in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The named part of the date at `seconds`.
/// Whether `function` gives a part of a date.
pub(super) fn is_part(function: &str) -> bool {
    matches!(
        function,
        "minute" | "hour" | "day_of_week" | "day_of_month" | "day_of_year" | "days_in_month" | "month" | "year"
    )
}

pub(super) fn part(function: &str, seconds: f64) -> f64 {
    // As Go converts: NaN and whatever does not fit become the smallest integer.
    let fits = (-9.2e18..=9.2e18).contains(&seconds);
    let seconds = if fits { seconds as i64 } else { i64::MIN };
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let value = match function {
        "minute" => of_day / 60 % 60,
        "hour" => of_day / 3600,
        "day_of_week" => (days + 4).rem_euclid(7),
        "day_of_month" => day,
        "day_of_year" => (1..month).map(|m| days_in_month(year, m)).sum::<i64>() + day,
        "days_in_month" => days_in_month(year, month),
        "month" => month,
        _ => year,
    };
    value as f64
}

/// `2006-01-02T15:04:05Z`.
pub(crate) fn rfc3339(ms: i64) -> String {
    let (year, month, day) = civil(ms.div_euclid(DAY_MS));
    let seconds = ms.rem_euclid(DAY_MS) / 1000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_have_the_parts_that_the_calendar_says() {
        let leap_day = 951_827_696.0; // 2000-02-29T12:34:56Z
        for (function, value) in [
            ("year", 2000.0),
            ("month", 2.0),
            ("day_of_month", 29.0),
            ("day_of_week", 2.0),
            ("day_of_year", 60.0),
            ("days_in_month", 29.0),
            ("hour", 12.0),
            ("minute", 34.0),
        ] {
            assert_eq!(part(function, leap_day), value, "{function}");
        }
        assert_eq!(part("year", -1.0), 1969.0);
        assert_eq!(rfc3339(951_827_696_000), "2000-02-29T12:34:56Z");
        assert!(part("year", f64::NAN).is_finite());
    }
}
