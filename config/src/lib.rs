//! What a region is: signed directory, settings.
