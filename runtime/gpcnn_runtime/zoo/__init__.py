"""The zoo: trained models that come with the package, in `models/`, each with a card."""
