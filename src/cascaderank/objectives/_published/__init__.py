"""Reference forms: what ``published=True`` computes, as the published code of LCRON does.

One file per method. These forms reproduce the epsilons, cut-offs and averages of that code. It has
no mask: a list with padding is evaluated at its own length, as if it were alone. The objective
files hold this library's own forms.
"""
