"""The executors that come with arrayopt. They import the core; the core does not import them."""
