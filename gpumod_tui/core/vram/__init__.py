"""How much memory a service needs: declared, measured or estimated."""
