"""A package of its own: members, a network and a data set for ghostjax."""
