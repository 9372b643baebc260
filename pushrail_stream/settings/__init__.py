"""Every setting of the product: declared once, frozen, with its unit in its name.

The room's rule: a setting is a field of `model` and nowhere else; what is wrong with one is said in a line that names
it; what is not a setting is refused. The room imports only the core, `errors` and `files`, and `policy` makes the
pipeline's policy of the settings.
"""
