//! The platform's domain services: user, product, order, analytics, notification.
