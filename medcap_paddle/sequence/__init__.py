"""Sequences from the cell up: recurrent cells, encoder and decoder, and lines of text in a film."""
