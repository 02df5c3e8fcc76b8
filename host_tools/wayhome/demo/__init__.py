"""The demo: a home behind CGNAT, a traveller in a café, and the way between them, told in the terminal."""
