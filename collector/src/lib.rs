//! The central service: discovery -> scrape -> write -> storage -> query -> rules -> notify.
