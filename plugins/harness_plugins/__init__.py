"""The built-in models and the embedded dataset, registered like third-party plug-ins."""
