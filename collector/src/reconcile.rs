//! Timer and nudge driven jobs that make something true elsewhere: status, last result, next run.
