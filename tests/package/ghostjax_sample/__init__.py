"""A package of its own: a defense, an attack, a denoiser and a network for ghostjax."""
