"""Networks described as data and built from namespaces, with the NATs, carriers and cafés that real homes sit behind."""
