"""Networks that go to other libraries, and come from them."""
