"""From a specification to the steps that a container's child carries out."""
