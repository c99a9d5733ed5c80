# Residuals of gls fits with correlated residuals, at the estimates stored beside them.
# Run in the root of the repository: Rscript tests/reference/make_residuals.R
# Debian packages: r-cran-nlme r-cran-jsonlite. Complete data, and every seventh row left out.
suppressMessages({library(nlme); library(jsonlite)})
d <- read.csv("bayesmixed/datasets/data/orthodont.csv", stringsAsFactors=FALSE)
d$visit <- match(d$age, sort(unique(d$age)))
# Rows of a subject stand together in the order of the subjects: nlme whitens rows as if they did.
d <- d[order(d$Subject, d$age), ]
out <- list()
one <- function(data, correlation, weights=NULL, symbol) {
  g <- gls(distance ~ age * Sex, data, correlation=correlation, weights=weights, method="REML", na.action=na.omit)
  p <- coef(g$modelStruct$corStruct, unconstrained=FALSE)
  sd <- sigma(g) * if (is.null(weights)) rep(1, 4) else coef(g$modelStruct$varStruct, unconstrained=FALSE, allCoef=TRUE)[as.character(c(8,10,12,14))]
  list(rows=as.integer(rownames(data)) - 1L, symbol=symbol, correlation=as.numeric(p), sigma=as.numeric(sd), beta=as.numeric(coef(g)),
    raw=as.numeric(resid(g)), pearson=as.numeric(resid(g, type="pearson")), normalized=as.numeric(resid(g, type="normalized")))
}
part <- d[seq_len(nrow(d)) %% 7 != 0, ]
out$ar1 <- one(d, corAR1(form = ~ visit | Subject), symbol="phi")
out$ar1_heterogeneous_missing <- one(part, corAR1(form = ~ visit | Subject), varIdent(form = ~ 1 | age), "phi")
out$continuous_missing <- one(part, corCAR1(form = ~ age | Subject), symbol="phi")
out$unstructured <- one(d, corSymm(form = ~ visit | Subject), varIdent(form = ~ 1 | age), "cor_residual")
out$unstructured_missing <- one(part, corSymm(form = ~ visit | Subject), varIdent(form = ~ 1 | age), "cor_residual")
out$versions <- list(R=R.version.string, nlme=as.character(packageVersion("nlme")))
write(toJSON(out, auto_unbox=TRUE, digits=12), "tests/reference/residuals.json")
