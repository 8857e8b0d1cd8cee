"""The built-in models and the embedded dataset, registered exactly as a third party's would be."""
