//! The agent in every Fargate task: inputs -> pipeline -> outputs.
