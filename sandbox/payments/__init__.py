"""Taking money: cards, intents, 3-D Secure, charges and refunds."""
