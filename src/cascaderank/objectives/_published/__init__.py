"""Reference forms: what ``published=True`` computes, as the published code of LCRON does.

One file per method. These forms reproduce the epsilons, cut-offs and averages of that code and are
defined for full lists only; the objective files hold this library's own forms.
"""
