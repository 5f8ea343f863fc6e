"""Takes orders, charges them, and confirms them by mail."""
