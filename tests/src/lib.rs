//! Whole-region tests, fault harness and the demo.
