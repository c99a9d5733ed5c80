# Potthoff & Roy's growth data (orthodont) under nine structures of covariance, by ML and REML.
# Run in the root of the repository: Rscript tests/reference/make_structures.R
# Debian packages: r-cran-nlme r-cran-jsonlite. TOEP of four visits is AR(3); ANTE(1), which nlme lacks,
# by optim on the same likelihoods, which are checked against gls on AR(1).
suppressMessages({library(nlme); library(jsonlite)})
d <- read.csv("bayesmixed/datasets/data/orthodont.csv", stringsAsFactors=FALSE)
d$visit <- match(d$age, sort(unique(d$age))); d <- d[order(d$Subject, d$age), ]
ages <- as.character(c(8, 10, 12, 14)); f <- distance ~ age * Sex
free <- varIdent(form = ~ 1 | age)
fits <- list(
  un=list(corSymm(form = ~ visit | Subject), free), cs=list(corCompSymm(form = ~ 1 | Subject), NULL),
  csh=list(corCompSymm(form = ~ 1 | Subject), free), ar1=list(corAR1(form = ~ visit | Subject), NULL),
  arh1=list(corAR1(form = ~ visit | Subject), free), toep=list(corARMA(form = ~ visit | Subject, p=3, q=0), NULL),
  toeph=list(corARMA(form = ~ visit | Subject, p=3, q=0), free), sp_exp=list(corExp(form = ~ age | Subject), NULL))
parameters <- function(name, p) switch(sub("h1?$", "", name),
  un=list(cor_residual=p), cs=list(rho=p), ar1=list(phi=p), ar=list(phi=p),
  toep=list(partial=(1 + as.numeric(ARMAacf(ar=p, lag.max=3, pacf=TRUE))) / 2, rho=as.numeric(ARMAacf(ar=p, lag.max=3)[-1])),
  sp_exp=list(range=p))
one <- function(name, method) {
  g <- gls(f, d, correlation=fits[[name]][[1]], weights=fits[[name]][[2]], method=method,
    control=glsControl(maxIter=500, msMaxIter=500, tolerance=1e-10, msTol=1e-12))
  p <- as.numeric(coef(g$modelStruct$corStruct, unconstrained=FALSE))
  sd <- sigma(g) * if (is.null(fits[[name]][[2]])) 1 else coef(g$modelStruct$varStruct, unconstrained=FALSE, allCoef=TRUE)[ages]
  c(list(beta=as.numeric(coef(g)), se=sqrt(diag(vcov(g))), sigma=as.numeric(sd), logLik=as.numeric(logLik(g))), parameters(name, p))
}
Y <- matrix(d$distance, 4); n <- ncol(Y); X <- model.matrix(f, d)
dense <- function(R, sd, reml) { # profile likelihoods over beta, as gls has them
  V <- R * outer(sd, sd); Q <- solve(V); A <- 0; b <- 0; q <- 0
  for (i in seq_len(n)) { x <- X[4*(i-1) + 1:4, ]; A <- A + t(x) %*% Q %*% x; b <- b + t(x) %*% Q %*% Y[, i]; q <- q + sum(Y[, i] * (Q %*% Y[, i])) }
  beta <- solve(A, b); N <- length(Y) - if (reml) ncol(X) else 0
  l <- -0.5 * (N*log(2*pi) + n*determinant(V)$modulus + q - sum(b*beta) + if (reml) determinant(A)$modulus else 0)
  list(logLik=as.numeric(l), beta=as.numeric(beta), se=sqrt(diag(solve(A))))
}
lag <- abs(outer(1:4, 1:4, "-"))
a <- one("ar1", "ML"); stopifnot(abs(dense(a$phi^lag, rep(a$sigma, 4), FALSE)$logLik - a$logLik) < 1e-8)
a <- one("ar1", "REML"); stopifnot(abs(dense(a$phi^lag, rep(a$sigma, 4), TRUE)$logLik - a$logLik) < 1e-8)
ante <- function(rho) { R <- diag(4); for (i in 1:3) for (j in (i+1):4) R[i, j] <- R[j, i] <- prod(rho[i:(j-1)]); R }
antes <- function(reml) {
  g <- function(t) tryCatch(-dense(ante(tanh(t[1:3])), exp(t[4:7]), reml)$logLik, error=function(e) 1e10)
  o <- optim(c(rep(0.7, 3), rep(0.8, 4)), g, method="BFGS", control=list(maxit=2000, reltol=1e-14))
  r <- dense(ante(tanh(o$par[1:3])), exp(o$par[4:7]), reml)
  list(beta=r$beta, se=r$se, sigma=exp(o$par[4:7]), logLik=r$logLik, rho=tanh(o$par[1:3]))
}
out <- list(ML=lapply(setNames(names(fits), names(fits)), one, "ML"), REML=lapply(setNames(names(fits), names(fits)), one, "REML"))
out$ML$ante1 <- antes(FALSE); out$REML$ante1 <- antes(TRUE)
print(sapply(out$ML, function(x) -2*x$logLik)); print(sapply(out$REML, function(x) -2*x$logLik))
# Printed by SAS PROC MIXED (method=ml) in Verbeke & Molenberghs's course notes on the growth data,
# "Introduction to Longitudinal Data Analysis" (their Models 2, 4 and 5), as in Jennrich & Schluchter (1986).
out$published <- list(minus_2_log_likelihood=list(un=419.477, toep=424.643, ar1=440.681),
  un=list(variance=c(5.12, 3.93, 5.98, 4.62), covariance=c(2.44, 3.61, 2.52, 2.72, 3.06, 3.82)),
  toep=list(variance=4.9439, correlation=c(0.6171, 0.6888, 0.4737)), ar1=list(variance=4.8903, correlation=c(0.6070, 0.3685, 0.2237)))
out$versions <- list(R=R.version.string, nlme=as.character(packageVersion("nlme")))
write(toJSON(out, auto_unbox=TRUE, digits=12, pretty=TRUE), "tests/reference/structures.json")
