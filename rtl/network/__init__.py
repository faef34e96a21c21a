"""Networks between pods and banks: butterflies and crossbars."""
